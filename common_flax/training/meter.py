"""Averages metrics and times train steps."""

from collections.abc import Callable
import time
from typing import Any

from flax import struct
import jax
import numpy as np

from common_flax.training import finite

Local = Callable[[Any], Any]  # brings arrays to one device: `Parallel.local`


@struct.dataclass
class PackedMetrics:
  """The metrics of a call in one array, which is ten times faster to fetch."""

  values: jax.Array
  names: tuple[str, ...] = struct.field(pytree_node=False)

  def unpack(self) -> dict[str, np.ndarray]:
    """The metrics by name, as NumPy arrays."""
    return dict(zip(self.names, np.asarray(self.values), strict=True))


class Meter:
  """Means of metrics and seconds per step since the last `read`."""

  def __init__(self, local: Local):
    self._local = local
    self._pending = []  # may not be computed yet
    self._rows = []
    self._num_steps = 0
    self.restart_clock()

  def restart_clock(self) -> None:
    """Excludes the steps and the time until now from the rate."""
    self._start = time.monotonic()
    self._stopped_at: float | None = None
    self._untimed = self._num_steps

  def stop_clock(self) -> None:
    """Excludes the time from now until `run_clock` from the rate."""
    if self._stopped_at is None:
      self._stopped_at = time.monotonic()

  def run_clock(self) -> None:
    """Resumes the clock if it was stopped."""
    if self._stopped_at is not None:
      self._start += time.monotonic() - self._stopped_at
      self._stopped_at = None

  def add(self, metrics: PackedMetrics, num_steps: int) -> None:
    """Adds the metrics of a call, which may not be computed yet."""
    self._pending.append(metrics)
    self._num_steps += num_steps

  def _fetch(self) -> None:
    self._rows += [packed.unpack() for packed in self._local(self._pending)]
    self._pending = []

  def first_bad(self) -> tuple[int, list[str]] | None:
    """The first call since the last `read` whose metrics are not finite.

    Skipped calls do not count.

    Returns:
      The number of calls after it, and the names of those metrics; or None.
    """
    self._fetch()
    rows = [{} if row.get(finite.SKIPPED) else row for row in self._rows]
    bad = finite.first_bad(rows)
    return bad and (len(rows) - 1 - bad.index, bad.names)

  def read(self) -> tuple[dict[str, float], float | None]:
    """Returns means and seconds per step since the last `read`; resets both.

    Waits for the devices. Skipped calls are counted but left out of the means.
    """
    self._fetch()
    rows = [row for row in self._rows if not row.get(finite.SKIPPED)]
    names = self._rows[0]
    means = {
      name: float(np.mean([row[name] for row in rows])) if rows else np.nan
      for name in names
    }
    if finite.SKIPPED in names:
      means[finite.SKIPPED] = float(sum(r[finite.SKIPPED] for r in self._rows))
    timed = self._num_steps - self._untimed
    seconds = time.monotonic() - self._start
    self._rows, self._num_steps = [], 0
    self.restart_clock()
    return means, seconds / timed if timed else None
