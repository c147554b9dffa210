"""Which examples make which batch, and how batches reach the devices.

The batch rule: batch t is a pure function of (source, seed, batch size, t). The
examples of all epochs stand in one endless line, each epoch in a permutation of
its own, and batch t takes the places from t * B to (t + 1) * B; so no example
comes twice in an epoch, and a batch may cross from one epoch into the next.

A batch is an array of examples, or with labels a `Labelled`.

Dimensions: B batch, S image side, C channels, U discriminator updates (or other
batches that one train step takes).
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

from common_flax.data.source import ArraySource
from common_flax.data.source import Source

T = TypeVar('T')
Batch = Any  # an array, or a Labelled

# Of sources that do not fit into memory: how many batches are read at once, and
# how many of them wait. By default it would be 500, which may not fit either.
_READING_THREADS = 8
_READ_AHEAD = 16

# Batches are brought to the devices in groups: one by one, each finds the
# processor's caches full of the train step's numbers, and takes twice as long.
_GROUP_SIZE = 8
_GROUP_BYTES = 2**25


class Labelled(NamedTuple):
  """Examples with their labels; leading axes are the same."""

  examples: np.ndarray  # uint8 [..., B, S, S, C], or of points float32 [..., 2]
  labels: np.ndarray  # int32 [..., B]


def permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
  """The order of one epoch, int64 [num_examples].

  It is the order of raw random words, which NumPy promises never to change.
  """
  words = np.random.Philox(key=[seed, epoch]).random_raw(num_examples)
  return np.argsort(words, kind='stable')


class Line:
  """The endless line of a source's examples, epoch after epoch."""

  def __init__(self, num_examples: int, seed: int):
    """Makes the line of a source.

    Args:
      num_examples: size of the source, at least 1.
      seed: of the run, at least 0.
    """
    self._num_examples = num_examples
    # A batch needs the order of one epoch, or of two.
    self._order = functools.lru_cache(maxsize=2)(
      functools.partial(permutation, num_examples, seed)
    )

  def examples_at(self, places: np.ndarray) -> np.ndarray:
    """The numbers of the examples that stand at `places`, int64."""
    epochs, offsets = np.divmod(places, self._num_examples)
    examples = np.empty_like(places)
    for epoch in np.unique(epochs):
      here = epochs == epoch
      examples[here] = self._order(int(epoch))[offsets[here]]
    return examples

  def batch(self, size: int, t: int) -> np.ndarray:
    """The numbers of the examples of batch t, counted from 0: [size]."""
    return self.examples_at(np.arange(t * size, (t + 1) * size))


def _streamed(
  source: Source,
  line: Line,
  batch_size: int,
  rows: slice,
  start: int,
  stop: int,
) -> Iterator[Labelled]:
  """Batches start to stop of a source too large for memory, through Grain."""

  def batch_at(t: int) -> Labelled:
    examples = [source[int(i)] for i in line.batch(batch_size, t)[rows]]
    return Labelled(
      np.stack([example['image'] for example in examples]),
      np.array([example['label'] for example in examples], np.int32),
    )

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
  """Yields the batches of the steps from start_step to num_steps.

  Step t takes the batches from t * U to (t + 1) * U. With `rows` only these of
  each batch are read: the share of one process.

  Yields:
    uint8 [U, B, S, S, C], or of points float32 [U, B, 2]; with labels a
    `Labelled` of these.
  """
  start, stop = start_step * batches_per_step, num_steps * batches_per_step
  line = Line(len(source), seed)
  if isinstance(source, ArraySource) and source.is_in_memory:
    numbers = (line.batch(batch_size, t)[rows] for t in range(start, stop))
    batches = (Labelled(source.examples[n], source.labels[n]) for n in numbers)
  else:
    batches = _streamed(source, line, batch_size, rows, start, stop)
  if not with_labels:
    batches = (batch.examples for batch in batches)
  return stacked(batches, batches_per_step)


def join(batches: Sequence[Batch], axis: int = 0) -> Batch:
  """Batches side by side along a new axis."""
  return jax.tree.map(lambda *arrays: np.stack(arrays, axis), *batches)


def stacked(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
  """Joins each `count` of the batches in one; a rest is left out.

  Yields:
    Batches whose arrays have an axis more, [count, ...].
  """
  for group in zip(*[batches] * count, strict=False):
    yield join(group)


def _grouped(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
  """Groups of a few batches, or one by one where they are large."""
  for batch in batches:
    size = sum(x.nbytes for x in jax.tree.leaves(batch))
    num_more = min(_GROUP_SIZE, _GROUP_BYTES // size) - 1
    yield [batch, *itertools.islice(batches, max(num_more, 0))]


@contextlib.contextmanager
def prefetched(
  batches: Iterator[Batch], put: Callable[[Batch], T]
) -> Iterator[Iterator[T]]:
  """Keeps the next batches on the devices, from a background thread.

  A group of them waits there while one is used up and one is made.

  Args:
    batches: what to hand over, in order; an error it raises is raised to the
      consumer.
    put: brings a batch to the devices.

  Yields:
    An iterator over what `put` returned.
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
        ready.get_nowait()  # for which it may be waiting to make room
      thread.join(timeout=0.01)
