"""What training reports: means of metrics, and how long a step takes."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import time
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import finite
from common_flax.sharding import Step

Local = Callable[[Any], Any]  # brings metrics to one device: `Parallel.local`


@struct.dataclass
class Packed:
  """The metrics of a call as one array: one by one takes ten times as long."""

  values: jax.Array
  names: tuple[str, ...] = struct.field(pytree_node=False)

  def unpack(self) -> dict[str, np.ndarray]:
    """The metrics by name, in NumPy."""
    return dict(zip(self.names, np.asarray(self.values), strict=True))


def packing(steps: Step) -> Step:
  """`steps` with packed metrics."""

  def packed(state, batches, root, *, axis_name=None):
    state, metrics = steps(state, batches, root, axis_name=axis_name)
    return state, Packed(jnp.stack(list(metrics.values())), tuple(metrics))

  return packed


class Meter:
  """Means of metrics, and the rate of steps since the last report."""

  def __init__(self):
    self._pending = []  # which may still be on their way
    self._rows = []
    self._num_steps = 0
    self.restart_clock()

  def restart_clock(self) -> None:
    """Leaves the steps and the time until now out of the rate."""
    self._start = time.monotonic()
    self._untimed = self._num_steps
    self._paused = 0.0

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Leaves what is done inside out of the rate; devices should be idle."""
    start = time.monotonic()
    yield
    self._paused += time.monotonic() - start

  def add(self, metrics: Packed, num_steps: int) -> None:
    """Takes the metrics of a call, which may still be on their way."""
    self._pending.append(metrics)
    self._num_steps += num_steps

  def _fetch(self, local: Local) -> None:
    self._rows += [packed.unpack() for packed in local(self._pending)]
    self._pending = []

  def first_bad(self, local: Local) -> tuple[int, list[str]] | None:
    """Since the last report the first call with a metric that is not finite.

    Returns:
      How many calls came after it, and the names of those metrics; None if
      there is none but in calls that were skipped.
    """
    self._fetch(local)
    rows = [{} if row.get(finite.SKIPPED) else row for row in self._rows]
    bad = finite.first_bad(rows)
    return bad and (len(rows) - 1 - bad.index, bad.names)

  def read(self, local: Local) -> tuple[dict[str, float], float | None]:
    """Means and seconds a step, once the devices are done; starts anew.

    Calls that were skipped are counted, and left out of the means.
    """
    self._fetch(local)
    rows = [r for r in self._rows if not r.get(finite.SKIPPED)]
    names = self._rows[0]
    means = {
      name: float(np.mean([r[name] for r in rows])) if rows else np.nan
      for name in names
    }
    if finite.SKIPPED in names:
      means[finite.SKIPPED] = float(sum(r[finite.SKIPPED] for r in self._rows))
    timed = self._num_steps - self._untimed
    seconds = time.monotonic() - self._start - self._paused
    self._rows, self._num_steps = [], 0
    self.restart_clock()
    return means, seconds / timed if timed else None
