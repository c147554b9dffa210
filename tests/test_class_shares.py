"""The measurement of which classes samples belong to."""

import numpy as np
import pytest

from benchmarks import class_shares
from common_flax import data


def test_real_digits_are_classed_as_what_they_are():
  test = data.load_source('digits', 'test', 16)
  nines = test.examples[test.labels == 9]
  shares, accuracy = class_shares.class_shares(nines, 'digits')
  assert shares[9] > 0.8
  assert shares.sum() == pytest.approx(1)
  assert accuracy > 0.9


def test_the_command_prints_the_least_share(tmp_path, capsys):
  images = data.load_source('digits', 'test', 16).examples
  np.savez(tmp_path / 'x.npz', images=images)
  assert class_shares.main(['', f'--images={tmp_path}/x.npz']) == 0
  assert 'least: ' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['missing.npz', 'text.npz', 'colour.npz'])
def test_what_are_no_digits_is_refused(tmp_path, capsys, name):
  (tmp_path / 'text.npz').write_text('PK no archive')
  np.savez(tmp_path / 'colour.npz', images=np.zeros((2, 16, 16, 3), np.uint8))
  assert class_shares.main(['', f'--images={tmp_path}/{name}']) == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
