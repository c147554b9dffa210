"""Hooks and sources that a caller of `train` gives from Python."""

import json

from conftest import assert_same_arrays
from conftest import final_state
from conftest import points_run
from conftest import read_metrics
import numpy as np
import pytest

from common_flax import data
from common_flax.data.source import ArraySource
from common_flax.errors import UserError
from gan_flax import evaluate
from gan_flax import sample
from gan_flax.train import train


class Recorder:
  """A hook that records its calls and adds a metric."""

  def __init__(self):
    self.steps, self.starts, self.last_steps, self.reports = [], [], [], []

  def __call__(self, now):
    self.steps.append(now.step)
    if now.is_start:
      self.starts.append(now.step)
    if now.is_last:
      self.last_steps.append(now.step)
    assert bool(now.metrics) == now.is_report
    if now.is_report:
      assert np.isfinite(now.metrics['d_loss'])
      assert int(now.state.step) == now.step
      self.reports.append(now.step)
      now.metrics['half_step'] = now.step / 2


@pytest.fixture(scope='module')
def hooked(tmp_path_factory):
  """Recorders of a run and of its resumption, and the workdir."""
  workdir = tmp_path_factory.mktemp('hooked') / 'run'
  first, second = Recorder(), Recorder()
  config = points_run(log_every_steps=4)
  assert train(config, workdir, hooks=[first]) is None
  config.num_steps = 10
  assert train(config, workdir, hooks=[second]) is None
  return first, second, workdir


def test_a_hook_is_called_at_the_start_and_after_every_call(hooked):
  first, second, _ = hooked
  assert first.steps == list(range(9))
  assert (first.starts, first.last_steps) == ([0], [8])
  assert second.steps == [8, 9, 10]
  assert (second.starts, second.last_steps) == ([8], [10])


def test_a_hook_sees_metrics_where_they_are_due(hooked):
  first, second, _ = hooked
  assert first.reports == [4, 8]
  assert second.reports == [10]


def test_numbers_that_a_hook_adds_are_written(hooked):
  rows = read_metrics(hooked[-1])
  found = {row['step']: row['half_step'] for row in rows}
  assert found == {4: 2.0, 8: 4.0, 10: 5.0}


def test_a_given_source_is_trained_on(tmp_path, smoke_config, trained, capsys):
  """The same bits as if the config had named the data."""
  source = data.load_source('digits', 'train', 16)
  workdir = tmp_path / 'run'
  assert train(smoke_config, workdir, source=source) is None
  assert_same_arrays(final_state(workdir), final_state(trained))
  config = json.loads((workdir / 'config.json').read_text())
  assert config['dataset']['name'] == 'custom'
  assert smoke_config.dataset.name == 'digits'
  with pytest.raises(UserError, match="name \\(was 'custom', now 'digits'"):
    train(smoke_config, workdir)
  capsys.readouterr()
  assert evaluate.main(['evaluate', f'--workdir={workdir}']) == 2
  error = capsys.readouterr().err
  assert 'given from Python' in error
  assert error.count('\n') == 1
  output = f'--output={tmp_path}/samples.npz'
  arguments = [f'--workdir={workdir}', output, '--num_samples=2']
  assert sample.main(['sample', *arguments]) == 0


@pytest.mark.parametrize('shape', [(8, 8, 1), (16, 8, 1), (8, 16, 1), (2,)])
def test_a_source_of_another_size_is_refused(tmp_path, smoke_config, shape):
  dtype = np.float32 if shape == (2,) else np.uint8
  examples = np.zeros((32, *shape), dtype)
  source = ArraySource(examples, np.full(32, -1, np.int32), None)
  with pytest.raises(UserError, match=r'config\.dataset\.image_size=16: '):
    train(smoke_config, tmp_path / 'run', source=source)
  assert not (tmp_path / 'run').exists()
