"""Metrics as arrays."""

import json

from conftest import read_metrics as read_lines
import numpy as np
import pytest

from common_flax.errors import UserError
from common_flax.workdir import history


def write(folder, *rows):
  lines = ''.join(f'{json.dumps(row)}\n' for row in rows)
  (folder / 'metrics.jsonl').write_text(lines)


def test_what_a_step_lacks_is_nan(tmp_path):
  write(
    tmp_path,
    {'step': 2, 'loss': 1.5},
    {'step': 4, 'loss': None, 'fid': 3},
    {'step': 6, 'loss': 0.5},
  )
  metrics = history.read_metrics(tmp_path)
  assert list(metrics) == ['step', 'loss', 'fid']
  assert metrics['step'].dtype == np.int64
  np.testing.assert_array_equal(metrics['step'], [2, 4, 6])
  np.testing.assert_array_equal(metrics['loss'], [1.5, np.nan, 0.5])
  np.testing.assert_array_equal(metrics['fid'], [np.nan, 3.0, np.nan])
  assert metrics['fid'].dtype == np.float64


def test_a_run_without_reports_has_no_steps(tmp_path):
  write(tmp_path)
  metrics = history.read_metrics(tmp_path)
  assert {name: len(array) for name, array in metrics.items()} == {'step': 0}


def test_the_arrays_are_the_lines_of_the_file(trained):
  metrics = history.read_metrics(trained)
  for i, line in enumerate(read_lines(trained)):
    assert {name: metrics[name][i] for name in line} == line


@pytest.mark.parametrize('is_folder', [False, True])
def test_a_folder_that_is_no_workdir_is_named(tmp_path, is_folder):
  if is_folder:
    (tmp_path / 'metrics.jsonl').mkdir()
  with pytest.raises(UserError, match=rf'^{tmp_path}/metrics\.jsonl: '):
    history.read_metrics(tmp_path)
