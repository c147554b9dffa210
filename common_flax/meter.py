"""What training reports: means of metrics, and how long a step takes."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import time
from typing import Any

import jax
import numpy as np


class Meter:
  """Means of metrics, and the rate of steps since the last report."""

  def __init__(self):
    self._metrics = []
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

  def add(self, metrics: Mapping[str, jax.Array], num_steps: int) -> None:
    """Takes the metrics of some steps, which may still be on their way."""
    self._metrics.append(metrics)
    self._num_steps += num_steps

  def read(
    self, local: Callable[[Any], Any]
  ) -> tuple[dict[str, float], float | None]:
    """Means and seconds a step, once the devices are done; starts anew.

    Args:
      local: brings metrics to one device, as `Parallel.local`.
    """
    rows = jax.device_get(local(self._metrics))
    means = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    timed = self._num_steps - self._untimed
    seconds = time.monotonic() - self._start - self._paused
    self._metrics, self._num_steps = [], 0
    self.restart_clock()
    return means, seconds / timed if timed else None
