"""The example of a family of one's own: what it gets from the public API."""

import json
import pathlib
import runpy

import numpy as np
import pytest
from saved_arrays import arrays_of
from saved_arrays import differences

EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'autoencoder.py'


@pytest.fixture(scope='module')
def example():
  """The names that the example defines."""
  return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope='module')
def finished(example, tmp_path_factory):
  """The workdir of a finished smoke run; not to be changed."""
  workdir = tmp_path_factory.mktemp('autoencoder') / 'run'
  assert example['train'](example['get_config']('smoke'), workdir) is None
  return workdir


def test_it_fits_a_page_or_three():
  assert EXAMPLE.read_text().count('\n') <= 150


def test_it_imports_public_names_alone():
  assert '._' not in EXAMPLE.read_text()


def test_it_logs_draws_and_checkpoints(finished):
  rows = (finished / 'metrics.jsonl').read_text().splitlines()
  errors = [json.loads(row)['squared_error'] for row in rows]
  assert len(errors) == 4
  assert errors == sorted(errors, reverse=True)  # it learns
  assert (finished / 'curves.png').exists()
  assert (finished / 'samples.gif').exists()
  assert 'squared_error' in (finished / 'report.html').read_text()
  pictures = sorted(path.name for path in (finished / 'samples').iterdir())
  assert pictures == [f'step_{step:08d}.png' for step in (0, 4, 8)]
  saved = sorted(path.name for path in (finished / 'checkpoints').iterdir())
  assert saved == ['4', '8']


def test_a_resumed_run_ends_with_the_same_bits(example, finished, tmp_path):
  config = example['get_config']('smoke').unlock()
  config.num_steps = 4
  assert example['train'](config, tmp_path / 'run') is None
  config.num_steps = 8
  assert example['train'](config, tmp_path / 'run') is None
  assert differences(tmp_path / 'run', finished, 8) == []


def test_pmap_computes_the_same_function(example, finished, tmp_path):
  config = example['get_config']('smoke').unlock()
  config.parallelism = 'pmap'
  assert example['train'](config, tmp_path / 'run') is None
  expected = arrays_of(finished, 8)
  for name, array in arrays_of(tmp_path / 'run', 8).items():
    np.testing.assert_allclose(array, expected[name], atol=1e-4, err_msg=name)


def test_the_command_trains(example, tmp_path, capsys):
  arguments = [f'--config={EXAMPLE}:smoke', f'--workdir={tmp_path / "run"}']
  assert example['main']([str(EXAMPLE), *arguments]) == 0
  assert 'step 8/8' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('override', 'expected'),
  [
    ('latent_size=0', 'config.latent_size=0: must be at least 1'),
    ('latent_sise=4', 'config.latent_sise: no such field'),
    ('optimizer.b1=2.0', 'config.optimizer.b1=2.0'),
  ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
  override, expected, example, tmp_path, capsys
):
  arguments = [f'--config={EXAMPLE}:smoke', f'--workdir={tmp_path / "run"}']
  argv = [str(EXAMPLE), *arguments, f'--config.{override}']
  assert example['main'](argv) == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ') and error.count('\n') == 1
  assert expected in error
  assert not (tmp_path / 'run').exists()
