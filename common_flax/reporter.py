"""What one process of a run tells the world: numbers, pictures, warnings."""

from collections.abc import Mapping
import contextlib
import math
import time
from typing import Any

import jax
import numpy as np

from common_flax import terminal
from common_flax.alarms import healthy_step
from common_flax.alarms import Row
from common_flax.meter import Meter
from common_flax.metrics import best
from common_flax.speed import Speed
from common_flax.task import Schedule
from common_flax.task import State
from common_flax.task import Task
from common_flax.writers import RunWriter

_CURVES_SECONDS = 60  # from one drawing to the next: it takes a core 0.2 s


class Reporter:
  """Measures a run and writes it down. States are arrays on one device."""

  def __init__(
    self,
    task: Task,
    schedule: Schedule,
    writer: RunWriter,
    progress: terminal.TrainingProgress,
    meter: Meter,
  ):
    self._task = task
    self._schedule = schedule
    self._writer = writer
    self._progress = progress
    self._meter = meter
    self._speed: Speed | None = None
    self._drew_curves = -math.inf  # at which time
    self._is_warned = False

  def draw(self, step: int, state: State) -> None:
    """Keeps a picture of a state."""
    with self._meter.pause():
      self._writer.picture(step, self._task.draw(state))

  def draw_curves(self, *, in_any_case: bool) -> None:
    """Draws the curves so far, while training goes on.

    Args:
      in_any_case: also if they were drawn less than a minute ago.
    """
    now = time.monotonic()
    if in_any_case or now - self._drew_curves > _CURVES_SECONDS:
      self._drew_curves = now
      self._writer.curves()

  def finish(self) -> None:
    """Draws what shows all of the run."""
    self._writer.curves()
    self._writer.gif()

  def trace(self) -> contextlib.AbstractContextManager[None]:
    """Records what the devices do meanwhile."""
    return self._writer.trace()

  def report(
    self,
    step: int,
    means: Mapping[str, float],
    seconds: float | None,
    state: State,
  ) -> None:
    """Records metrics, with what it measures of the state itself.

    Args:
      step: that is done.
      means: of the steps' metrics since the last report.
      seconds: a step, if that is known.
      state: after the step.
    """
    with self._meter.pause():
      numbers = {**means, **self._measure(step, state)}
      numbers |= self._evaluate(step, state)
    parts = [
      f'{name} {terminal.number(numbers[name])}' for name in self._task.headline
    ]
    if seconds:
      rates = self._rates(seconds)
      numbers |= rates
      left = (self._schedule.num_steps - step) * seconds
      parts.append(f'{rates["images_per_second"]:,.0f} {self._task.examples}/s')
      parts.append(f'{terminal.duration(left)} left')
    self._writer.scalars(step, numbers)
    self._progress.report(step, '  '.join(parts))

  def _rates(self, seconds: float) -> dict[str, float]:
    if self._speed is None:
      with self._meter.pause():
        self._speed = self._task.speed()
    return self._speed.rates(seconds)

  def _measure(self, step: int, state: State) -> dict[str, float]:
    """What the task measures of the state, of an array each number."""
    measured: Mapping[str, Any] = jax.device_get(self._task.measure(state))
    arrays = {k: v for k, v in measured.items() if np.ndim(v)}
    self._writer.histograms(step, arrays)
    numbers = {k: float(v) for k, v in measured.items() if k not in arrays}
    for name, array in arrays.items():
      digits = len(str(array.size - 1))
      # TensorBoard shows names that share what is before a slash together.
      numbers |= {
        f'{name}/{i:0{digits}}': float(x) for i, x in enumerate(array.flat)
      }
    return numbers

  def _evaluate(self, step: int, state: State) -> dict[str, float]:
    """What samples score, where it is time to ask."""
    every = self._schedule.evaluate_every
    if not every or step % every:
      return {}
    scores = self._task.evaluate(state)
    numbers = (f'{k} {terminal.number(v)}' for k, v in scores.items())
    self._progress.say(f'Step {step:,}: {", ".join(numbers)}')
    return dict(scores)

  def _due_rows(self) -> list[Row]:
    """The metrics but for those of an interruption, which are of chance."""
    log_every = self._schedule.log_every
    return [row for row in self._writer.rows if row['step'] % log_every == 0]

  def warning(self, step: int) -> str | None:
    """What the numbers say that goes wrong, said once."""
    warning = self._task.judge(self._due_rows()).warning
    if warning and not self._is_warned:
      self._progress.say(f'Step {step:,}: {warning}')
    self._is_warned = warning is not None
    return warning

  def best_step(self) -> int | None:
    """The step of the best checkpoint, if samples were judged."""
    name = self._task.decisive_metric
    values = {row['step']: row.get(name) for row in self._writer.rows}
    return best.best_step(values, name)

  def healthy_step(self, steps: list[int], attempt: int) -> int | None:
    """The one of the steps to go back to, see `alarms.healthy_step`."""
    return healthy_step(steps, self._due_rows(), self._task.judge, attempt)
