"""The batch rule, and the transfer of batches to the devices."""

import itertools
import time

import numpy as np
import pytest

from common_flax.data import batches
from common_flax.data.source import ArraySource


def line(num_examples, seed, batch_size, num_batches):
  return np.concatenate(
    [
      batches.ExampleOrder(num_examples, seed).batch(batch_size, t)
      for t in range(num_batches)
    ]
  )


@pytest.mark.parametrize('batch_size', [1, 4, 7, 10, 23])
def test_every_epoch_holds_every_example_once(batch_size):
  examples = line(10, 0, batch_size, 10)
  for epoch in range(len(examples) // 10):
    assert sorted(examples[10 * epoch : 10 * epoch + 10]) == list(range(10))


def test_epochs_and_seeds_differ_in_order():
  orders = {
    tuple(batches.permutation(20, seed, epoch))
    for seed in range(5)
    for epoch in range(5)
  }
  assert len(orders) == 25


def test_the_order_never_changes():
  # Written down once: a change here would change every resumed run.
  assert batches.ExampleOrder(10, 1).batch(4, 2).tolist() == [1, 4, 0, 6]


@pytest.fixture
def source():
  images = np.arange(11, dtype=np.uint8)[:, None, None, None]
  return ArraySource(images, np.zeros(11, np.int32), 1)


class Streamed:
  """A source that is read an example at a time."""

  def __init__(self, source):
    self._source = source
    self.example_shape, self.dtype = source.example_shape, source.dtype
    self.num_classes = source.num_classes

  def __len__(self):
    return len(self._source)

  def __getitem__(self, index):
    return self._source[index]


def collect(source, start_step, batches_per_step=2):
  return [
    batch[..., 0, 0, 0].tolist()
    for batch in batches.example_batches(
      source,
      seed=5,
      batch_size=4,
      batches_per_step=batches_per_step,
      start_step=start_step,
      num_steps=6,
    )
  ]


def test_a_step_takes_the_batches_that_the_rule_gives(source):
  for t, batch in enumerate(collect(source, 0)):
    assert batch == [
      batches.ExampleOrder(11, 5).batch(4, 2 * t + j).tolist() for j in range(2)
    ]


def test_a_later_start_gives_the_same_batches(source):
  assert collect(source, 4) == collect(source, 0)[4:]


@pytest.mark.parametrize('start', [0, 3])
def test_a_streamed_source_gives_the_same_batches(source, start):
  assert collect(Streamed(source), start) == collect(source, start)


def mapped(source, folder):
  """The same examples in a file that is mapped to memory."""
  np.save(folder / 'x.npy', source.examples)
  examples = np.load(folder / 'x.npy', mmap_mode='r')
  return ArraySource(examples, source.labels, source.num_classes)


@pytest.mark.parametrize('place', ['memory', 'file', 'elsewhere'])
@pytest.mark.parametrize('start_step', [0, 2])
def test_labels_belong_to_their_examples(tmp_path, place, start_step):
  images = np.arange(11, dtype=np.uint8)[:, None, None, None]
  labels = np.random.default_rng(0).permutation(11).astype(np.int32)
  source = ArraySource(images, labels, 11)
  source = {
    'memory': lambda: source,
    'file': lambda: mapped(source, tmp_path),
    'elsewhere': lambda: Streamed(source),
  }[place]()
  options = dict(
    seed=5, batch_size=4, batches_per_step=2, start_step=start_step, num_steps=4
  )
  plain = list(batches.example_batches(source, **options))
  found = list(batches.example_batches(source, with_labels=True, **options))
  assert len(found) == 4 - start_step
  for examples, batch in zip(plain, found, strict=True):
    assert isinstance(batch, batches.Labelled)
    np.testing.assert_array_equal(batch.examples, examples)
    assert batch.labels.shape == (2, 4)
    assert batch.labels.dtype == np.int32
    np.testing.assert_array_equal(batch.labels, labels[examples[..., 0, 0, 0]])


def labelled(num):
  random = np.random.default_rng(0)
  return [
    batches.Labelled(random.normal(size=(4, 2)), random.integers(9, size=4))
    for _ in range(num)
  ]


@pytest.mark.parametrize('axis', [0, 1])
def test_joining_keeps_labels_beside_their_examples(axis):
  joined = batches.join(parts := labelled(3), axis)
  assert isinstance(joined, batches.Labelled)
  for i, part in enumerate(parts):
    np.testing.assert_array_equal(joined.examples.take(i, axis), part.examples)
    np.testing.assert_array_equal(joined.labels.take(i, axis), part.labels)


def test_stacking_drops_an_incomplete_group():
  parts = labelled(5)
  first, second = batches.join_each(iter(parts), 2)
  assert first.examples.shape == (2, 4, 2)
  np.testing.assert_array_equal(second.labels[1], parts[3].labels)


def test_prefetching_keeps_order_and_ends():
  items = [np.array([i]) for i in range(20)]
  with batches.prefetched(iter(items), lambda x: 2 * x) as ready:
    assert [int(x[0]) for x in ready] == list(range(0, 40, 2))


def test_prefetching_stops_early_without_hanging():
  endless = (np.zeros(1) for _ in iter(int, 1))
  with batches.prefetched(endless, lambda x: x) as ready:
    next(ready)


@pytest.mark.parametrize(('megabytes', 'num_waiting'), [(1, 16), (40, 2)])
def test_large_batches_do_not_wait_in_groups(megabytes, num_waiting):
  """A group is in the queue, and one waits to get there."""
  batch = np.broadcast_to(np.zeros(1), (megabytes, 2**17))  # of no memory
  made = []

  def put(batch):
    made.append(batch)
    return batch

  with batches.prefetched(itertools.repeat(batch), put):
    deadline = time.monotonic() + 10
    while len(made) < num_waiting and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == num_waiting


def test_an_error_while_prefetching_reaches_the_consumer():
  def broken():
    yield np.zeros(1)
    raise RuntimeError('disk gone')

  with (
    batches.prefetched(broken(), lambda x: x) as ready,
    pytest.raises(RuntimeError, match='disk gone'),
  ):
    list(ready)
