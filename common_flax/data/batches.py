"""Which examples form which batch, and how batches reach the devices.

The batch rule: batch t is a pure function of (source, seed, batch size, t).
Every epoch is a permutation of the source, and the epochs follow one another in
an endless sequence. Batch t holds positions t * B to (t + 1) * B of it. So no
example occurs twice in an epoch, and a batch may span two epochs.

Where images are cropped at random, the place of the crop is a function of the
seed, t and the row of the batch.

A batch is an array of examples, or a `Labelled` if labels are wanted.

Dimensions: B batch, H height, W width, C channels, U batches per train step.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import itertools
import queue
import threading
from typing import Any
from typing import NamedTuple
from typing import TypeVar

import grain
import jax
import numpy as np

from common_flax.data.cropping.wide_images import random_words
from common_flax.data.source import ArraySource
from common_flax.data.source import example_of
from common_flax.data.source import Source

T = TypeVar('T')
Batch = Any  # an array, or a Labelled

# For sources that do not fit into memory: threads, and batches read ahead.
# Grain's default of 500 batches may not fit either.
_READING_THREADS = 8
_READ_AHEAD = 16

# Batches are transferred in groups. A lone batch takes twice as long, as the
# train step has filled the processor's caches in the meantime.
_GROUP_SIZE = 8
_GROUP_BYTES = 2**25


class Labelled(NamedTuple):
  """Examples and their labels, with equal leading axes."""

  examples: np.ndarray  # uint8 [..., B, H, W, C]; points: float32 [..., B, 2]
  labels: np.ndarray  # int32 [..., B]


def permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
  """The order of one epoch, int64 [num_examples].

  It sorts raw random words, a stream that NumPy promises never to change.
  """
  words = np.random.Philox(key=[seed, epoch]).random_raw(num_examples)
  return np.argsort(words, kind='stable')


class ExampleOrder:
  """The endless sequence of a source's examples, epoch after epoch."""

  def __init__(self, num_examples: int, seed: int):
    """Creates the order of a source.

    Args:
      num_examples: size of the source, at least 1.
      seed: seed of the run, at least 0.
    """
    self._num_examples = num_examples
    # A batch spans one epoch or two.
    self._permutation = functools.lru_cache(maxsize=2)(
      functools.partial(permutation, num_examples, seed)
    )

  def indices_at(self, positions: np.ndarray) -> np.ndarray:
    """Indices of the examples at `positions`, int64 of the same shape."""
    epochs, offsets = np.divmod(positions, self._num_examples)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
      here = epochs == epoch
      indices[here] = self._permutation(int(epoch))[offsets[here]]
    return indices

  def batch(self, size: int, t: int) -> np.ndarray:
    """Indices of the examples in batch t, int64 [size]; t counts from 0."""
    return self.indices_at(np.arange(t * size, (t + 1) * size))


def _batch_reader(
  source: Source, seed: int, batch_size: int, rows: slice
) -> Callable[[int], Labelled]:
  """The function t -> batch t; see `example_batches`."""
  order = ExampleOrder(len(source), seed)
  is_array = isinstance(source, ArraySource)

  def batch_at(t: int) -> Labelled:
    indices = order.batch(batch_size, t)[rows]
    if is_array and source.wide is not None:
      words = random_words(seed, batch_size, t)[rows]
      return Labelled(source.wide.crops(indices, words), source.labels[indices])
    if is_array and source.is_in_memory:
      return Labelled(source.examples[indices], source.labels[indices])
    examples = [example_of(source, int(i)) for i in indices]
    kind = 'image' if 'image' in examples[0] else 'point'
    return Labelled(
      np.stack([example[kind] for example in examples]),
      np.array([example['label'] for example in examples], np.int32),
    )

  return batch_at


def _streamed(
  batch_at: Callable[[int], Labelled], start: int, stop: int
) -> Iterator[Labelled]:
  """Batches start to stop of a source too large for memory, read by Grain."""
  reading = grain.ReadOptions(_READING_THREADS, _READ_AHEAD)
  return iter(
    grain.MapDataset.range(start, stop).map(batch_at).to_iter_dataset(reading)
  )


def example_batches(
  source: Source,
  *,
  seed: int,
  batch_size: int,
  batches_per_step: int,
  start_step: int,
  num_steps: int,
  with_labels: bool = False,
  rows: slice = slice(None),
) -> Iterator[Batch]:
  """Yields the batches of train steps start_step to num_steps.

  Step t takes batches t * U to (t + 1) * U.

  Args:
    source: the examples.
    seed: seed of the run.
    batch_size: B, over all processes.
    batches_per_step: U.
    start_step: first step.
    num_steps: the step after the last one.
    with_labels: whether to yield `Labelled` batches.
    rows: the rows of each batch that this process reads.

  Yields:
    uint8 [U, B, H, W, C], or float32 [U, B, 2] of points.
  """
  start, stop = start_step * batches_per_step, num_steps * batches_per_step
  batch_at = _batch_reader(source, seed, batch_size, rows)
  if isinstance(source, ArraySource) and source.is_in_memory:
    batches = map(batch_at, range(start, stop))
  else:
    batches = _streamed(batch_at, start, stop)
  if not with_labels:
    batches = (batch.examples for batch in batches)
  return join_each(batches, batches_per_step)


def join(batches: Sequence[Batch], axis: int = 0) -> Batch:
  """Stacks batches along a new axis."""
  return jax.tree.map(lambda *arrays: np.stack(arrays, axis), *batches)


def join_each(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
  """Stacks every `count` batches; drops an incomplete last group.

  Yields:
    Batches with a leading axis [count, ...].
  """
  for group in zip(*[batches] * count, strict=False):
    yield join(group)


def _grouped(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
  """Yields groups of a few batches; large batches come one by one."""
  for batch in batches:
    size = sum(x.nbytes for x in jax.tree.leaves(batch))
    num_more = min(_GROUP_SIZE, _GROUP_BYTES // size) - 1
    yield [batch, *itertools.islice(batches, max(num_more, 0))]


@contextlib.contextmanager
def prefetched(
  batches: Iterator[Batch], put: Callable[[Batch], T]
) -> Iterator[Iterator[T]]:
  """Transfers the next batches to the devices in a background thread.

  One group of batches is ready while another is consumed and a third is made.
  Grain's prefetching is no faster: it transfers batches one by one and copies
  the iterator's state for each.

  Args:
    batches: the batches; the consumer gets the error that they raise.
    put: transfers a batch to the devices.

  Yields:
    An iterator over the results of `put`, in order.
  """
  ready = queue.Queue(maxsize=1)
  stopped = threading.Event()
  end = object()

  def work() -> None:
    try:
      for group in _grouped(batches):
        ready.put([put(batch) for batch in group])
        if stopped.is_set():
          return
      ready.put(end)
    except Exception as error:  # handed to the consumer
      ready.put(error)

  def consume() -> Iterator[T]:
    while (item := ready.get()) is not end:
      if isinstance(item, Exception):
        raise item
      yield from item

  thread = threading.Thread(target=work, name='prefetch', daemon=True)
  thread.start()
  try:
    yield consume()
  finally:
    stopped.set()
    while thread.is_alive():
      with contextlib.suppress(queue.Empty):
        ready.get_nowait()  # the thread may be waiting for room
      thread.join(timeout=0.01)
