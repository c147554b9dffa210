"""Hooks and sources that a caller of `train` gives from Python."""

import json

from conftest import assert_same_arrays
from conftest import final_state
from conftest import points_run
from conftest import read_metrics
import numpy as np
import pytest

from common_flax import data
from common_flax.data import batches
from common_flax.data.source import ArraySource
from common_flax.data.source import check_source
from common_flax.errors import UserError
from gan_flax import config as gan_config
from gan_flax import evaluate
from gan_flax import sample
from gan_flax.train import train


class Liar:
  """A source of points whose examples are those of a function."""

  example_shape, dtype, num_classes = (2,), np.dtype(np.float32), 3

  def __init__(self, example, num=100):
    self._example, self._num = example, num

  def __len__(self):
    return self._num

  def __getitem__(self, index):
    return self._example(index)


def point(label=0, dtype=np.float32, size=2):
  return {'point': np.zeros(size, dtype), 'label': label}


@pytest.mark.parametrize(
  ('example', 'message'),
  [
    (lambda i: [point()] * 60 and [point()][i], r'source\[50\] of 100: cannot'),
    (lambda i: {'image': 3}, r'source\[0\] of 100: cannot be read \(KeyError'),
    (lambda i: point(3), r'source\[0\]: has the label 3; num_classes=3 allows'),
    (lambda i: point(size=3), r'source\[0\]: is float32 \[3\], and the source'),
    (lambda i: point(dtype=np.float64), r'source\[0\]: is float64 \[2\], and'),
    (lambda i: 1 / (i - 99), r'source\[0\] of 100: .*TypeError'),
    (lambda i: point(label=0 if i < 99 else -1), r'source\[99\]: .* label -1'),
  ],
)
def test_a_source_that_lies_is_refused(tmp_path, example, message):
  with pytest.raises(UserError, match=message) as caught:
    train(points_run(), tmp_path / 'run', source=Liar(example))
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def of_shape(*shape, value=0.0, dtype=np.float32):
  return np.full(shape, value, dtype)


@pytest.mark.parametrize(
  ('source', 'labels', 'message'),
  [
    (Liar(point, num=0), None, 'source: holds no example'),
    (Liar(lambda i: point()), [1], 'labels: belong to an array; a source has'),
    (None, [1], 'labels: belong to an array of images; give it'),
    ('photos', None, 'source: a str without .*example_shape'),
    ([], None, r'images: shape \[0\]; give at least one image'),
    (of_shape(0, 8, 8, 3), None, r'images: shape \[0, 8, 8, 3\]; '),
    (of_shape(8, 8, 3), None, 'may be a single image'),
    (of_shape(4, 8, 8, 5), None, r'images: shape \[4, 8, 8, 5\]; '),
    (of_shape(4, 8, 8, value=np.nan), None, 'NaN'),
    (of_shape(4, 8, 8, value=None, dtype=object), None, 'Python objects'),
    (of_shape(4, 8, 8), [0, 1], 'one integer class for each of the 4 images'),
    (of_shape(4, 8, 8), None, r'image_size=32: .*\(8, 8, 1\); set it'),
  ],
)
def test_other_data_is_refused(tmp_path, source, labels, message):
  with pytest.raises(UserError, match=message) as caught:
    train(gan_config.default(), tmp_path / 'run', source=source, labels=labels)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def test_an_example_that_fails_later_is_named():
  source = Liar(lambda i: point() if i in (0, 50, 99) else {}[i])
  check_source(source)
  found = batches.example_batches(
    source, seed=0, batch_size=8, batches_per_step=1, start_step=0, num_steps=9
  )
  with pytest.raises(UserError, match=r'source\[\d+\] of 100: cannot be read'):
    list(found)


def test_points_of_any_source_are_read():
  world = data.load_source('ring', 'test', 0)
  one_by_one = Liar(world.__getitem__, len(world))
  one_by_one.num_classes = 8
  options = dict(seed=0, batch_size=8, batches_per_step=1)
  options |= dict(start_step=0, num_steps=3, with_labels=True)
  for a, b in zip(
    batches.example_batches(world, **options),
    batches.example_batches(one_by_one, **options),
    strict=True,
  ):
    np.testing.assert_array_equal(a.examples, b.examples)
    np.testing.assert_array_equal(a.labels, b.labels)


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
  digits = data.load_source('digits', 'train', 16)
  workdir = tmp_path / 'run'
  images, labels = digits.examples, digits.labels
  assert train(smoke_config, workdir, source=images, labels=labels) is None
  assert_same_arrays(final_state(workdir), final_state(trained))
  config = json.loads((workdir / 'config.json').read_text())
  assert config['dataset']['name'] == 'custom'
  assert smoke_config.dataset.name == 'digits'
  with pytest.raises(UserError, match="name \\(was 'custom', now 'digits'"):
    train(smoke_config, workdir)
  with pytest.raises(UserError, match=r'not the data of checkpoint.*content '):
    train(smoke_config, workdir, source=images[::-1], labels=labels)
  capsys.readouterr()
  assert evaluate.main(['evaluate', f'--workdir={workdir}']) == 2
  error = capsys.readouterr().err
  assert 'given from Python' in error
  assert error.count('\n') == 1
  output = f'--output={tmp_path}/samples.npz'
  arguments = [f'--workdir={workdir}', output, '--num_samples=2']
  assert sample.main(['sample', *arguments]) == 0


def test_a_hook_that_raises_stops_a_run_that_resumes(tmp_path, hooked):
  def broken(now):
    if now.step == 5:
      raise ZeroDivisionError('mine')

  config = points_run(log_every_steps=4)
  workdir = tmp_path / 'run'
  with pytest.raises(ZeroDivisionError, match='mine'):
    train(config, workdir, hooks=[broken])
  config.num_steps = 10
  assert train(config, workdir) is None
  assert_same_arrays(final_state(workdir), final_state(hooked[-1]))


@pytest.mark.parametrize('shape', [(8, 8, 1), (16, 8, 1), (8, 16, 1)])
def test_a_source_of_another_size_is_refused(tmp_path, smoke_config, shape):
  examples = np.zeros((32, *shape), np.uint8)
  source = ArraySource(examples, np.full(32, -1, np.int32), None)
  with pytest.raises(UserError, match=r'config\.dataset\.image_size=16: '):
    train(smoke_config, tmp_path / 'run', source=source)
  assert not (tmp_path / 'run').exists()


def test_points_from_python_are_refused_by_name(tmp_path):
  ring = data.load_source('ring', 'test', 0)
  with pytest.raises(UserError, match=r'^source: holds points, .*ring or grid'):
    train(points_run(), tmp_path / 'run', source=ring)
