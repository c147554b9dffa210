"""Which examples make which batch, and how batches reach the devices.

The batch rule: batch t is a pure function of (source, seed, batch size, t). The
examples of all epochs stand in one endless line, each epoch in a permutation of
its own, and batch t takes the places from t * B to (t + 1) * B; so no example
comes twice in an epoch, and a batch may cross from one epoch into the next.

Dimensions: B batch, S image side, C channels, U discriminator updates (or other
batches that one train step takes).
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import queue
import threading
from typing import TypeVar

import grain
import numpy as np

from common_flax.data.source import ArraySource
from common_flax.data.source import Source

T = TypeVar('T')


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
  source: Source, line: Line, batch_size: int, start: int, stop: int
) -> Iterator[np.ndarray]:
  """Batches start to stop of a source too large for memory, through Grain."""

  def image_at(place: int) -> np.ndarray:
    (index,) = line.examples_at(np.array([place]))
    return source[int(index)]['image']

  places = grain.MapDataset.range(start * batch_size, stop * batch_size)
  return iter(places.map(image_at).batch(batch_size).to_iter_dataset())


def example_batches(
  source: Source,
  *,
  seed: int,
  batch_size: int,
  batches_per_step: int,
  start_step: int,
  num_steps: int,
) -> Iterator[np.ndarray]:
  """Yields the batches of the steps from start_step to num_steps.

  Step t takes the batches from t * U to (t + 1) * U.

  Yields:
    uint8 [U, B, S, S, C], or of points float32 [U, B, 2].
  """
  start, stop = start_step * batches_per_step, num_steps * batches_per_step
  line = Line(len(source), seed)
  if isinstance(source, ArraySource) and source.is_in_memory:
    batches = (
      source.examples[line.batch(batch_size, t)] for t in range(start, stop)
    )
  else:
    batches = _streamed(source, line, batch_size, start, stop)
  for first in batches:
    rest = [next(batches) for _ in range(batches_per_step - 1)]
    yield np.stack([first, *rest])


def stacked(batches: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
  """Joins each `count` of the batches in one array; a rest is left out.

  Yields:
    [count, *batch.shape].
  """
  for group in zip(*[batches] * count, strict=False):
    yield np.stack(group)


@contextlib.contextmanager
def prefetched(
  batches: Iterator[np.ndarray], put: Callable[[np.ndarray], T], depth: int = 2
) -> Iterator[Iterator[T]]:
  """Keeps the next batches on the devices, from a background thread.

  Args:
    batches: what to hand over, in order; an error it raises is raised to the
      consumer.
    put: brings a batch to the devices.
    depth: batches that wait there at most.

  Yields:
    An iterator over what `put` returned.
  """
  ready = queue.Queue(maxsize=depth)
  stopped = threading.Event()
  end = object()

  def offer(item) -> bool:
    while not stopped.is_set():
      with contextlib.suppress(queue.Full):
        ready.put(item, timeout=0.1)
        return True
    return False

  def work() -> None:
    try:
      for batch in batches:
        if not offer(put(batch)):
          return
      offer(end)
    except Exception as error:  # handed to the consumer
      offer(error)

  def consume() -> Iterator[T]:
    while (item := ready.get()) is not end:
      if isinstance(item, Exception):
        raise item
      yield item

  thread = threading.Thread(target=work, name='prefetch', daemon=True)
  thread.start()
  try:
    yield consume()
  finally:
    stopped.set()
    thread.join()
