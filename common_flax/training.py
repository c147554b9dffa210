"""A run on its way from one step to the next: step, log, draw, checkpoint.

It knows nothing of models, only its `Task`.
"""

from collections.abc import Iterator
import contextlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import checkpoints as checkpoints_lib
from common_flax import compiler
from common_flax import sharding
from common_flax import terminal
from common_flax.alarms import GoBack
from common_flax.alarms import healthy_step
from common_flax.alarms import Row
from common_flax.alarms import TrainingFailedError
from common_flax.checkpoints import Checkpoints
from common_flax.data.batches import Batch
from common_flax.meter import Meter
from common_flax.metrics import best
from common_flax.sharding import Parallel
from common_flax.signals import Signals
from common_flax.speed import Speed
from common_flax.task import Schedule
from common_flax.task import State
from common_flax.task import Task
from common_flax.writers import RunWriter


@jax.jit
def _copy(state: State) -> State:
  return jax.tree.map(jnp.copy, state)


class Training:
  """A run from where it starts until it ends, is stopped, or goes back."""

  def __init__(
    self,
    task: Task,
    schedule: Schedule,
    parallel: Parallel,
    checkpoints: Checkpoints,
    writer: RunWriter,
    progress: terminal.TrainingProgress,
    step: int,
    state: State,
  ):
    self._task = task
    self._schedule = schedule
    self._parallel = parallel
    self._checkpoints = checkpoints
    self._writer = writer
    self._progress = progress
    self._step = self._start = step
    self._state = parallel.spread(state)
    self._steps = parallel.compile(
      sharding.in_one_call(
        task.step,
        schedule.steps_per_call,
        unroll_on_cpu=task.is_convolutional,
      ),
      {} if task.is_convolutional else compiler.for_dense_networks(),
    )
    self._meter = Meter()
    self._speed: Speed | None = None
    self._is_tracing = False
    self._is_warned = False
    self._failure: str | None = None  # which the run does not go on with

  def run(
    self, batches: Iterator[Batch], root: jax.Array, signals: Signals
  ) -> int | GoBack | None:
    """Steps until the end, a signal, or a failure that has a remedy.

    Returns:
      None, the signal's number, or what to do about the failure.

    Raises:
      TrainingFailedError: of a failure that is to stop the run.
    """
    # It shows the start, and is drawn when the first step is on its way.
    initial = None if self._start else _copy(self._parallel.local(self._state))
    with contextlib.ExitStack() as tracing:
      for batch in batches:
        self._profile(tracing)
        self._advance(batch, root)
        if initial is not None:
          self._draw(0, initial)
          initial = None
        if self._follow_up(is_stopped=signals.received is not None):
          break
        if self._failure:
          return self._respond(self._failure)
    return None if self._is_finished() else signals.received

  def _is_finished(self) -> bool:
    return self._step == self._schedule.num_steps

  def _follow_up(self, *, is_stopped: bool) -> bool:
    """Logs, draws and saves where it is time; whether the last step is done."""
    schedule = self._schedule
    finished = self._is_finished()
    last = finished or is_stopped
    is_due = self._step % schedule.log_every == 0
    if is_due or last:
      self._report()
    if is_due:
      self._judge()
    if self._failure:
      return False
    if self._step % schedule.sample_every == 0 or finished:
      jax.block_until_ready(self._state)
      self._draw(self._step, self._parallel.local(self._state))
    if finished:
      self._writer.gif()  # before the checkpoint that says so
    if self._step % schedule.checkpoint_every == 0 or last:
      self._save()
    return last

  def _advance(self, batch: Batch, root: jax.Array) -> None:
    began = time.monotonic()
    self._state, metrics = self._steps(self._state, batch, root)
    is_first = self._step == self._start
    self._step += self._schedule.steps_per_call
    self._meter.add(metrics, self._schedule.steps_per_call)
    if is_first:
      jax.block_until_ready(metrics)
      seconds = time.monotonic() - began
      self._progress.say(f'First step after {seconds:.1f} s of compiling.')
      self._progress.began()
      self._meter.restart_clock()
    self._progress.advance(self._step)

  def _draw(self, step: int, state: State) -> None:
    with self._meter.pause():
      self._writer.picture(step, self._task.draw(state))
      self._writer.curves()

  def _report(self) -> None:
    means, seconds = self._meter.read(self._parallel.local)
    bad = [name for name, value in means.items() if not np.isfinite(value)]
    with self._meter.pause():
      means |= self._measure()
      means |= self._evaluate()
    parts = [
      f'{name} {terminal.number(means[name])}' for name in self._task.headline
    ]
    if seconds:
      if self._speed is None:
        with self._meter.pause():
          self._speed = self._task.speed(self._parallel.num_devices)
      rates = self._speed.rates(seconds)
      means |= rates
      left = (self._schedule.num_steps - self._step) * seconds
      rate = rates['images_per_second']
      parts.append(f'{rate:,.0f} {self._task.examples}/s')
      parts.append(f'{terminal.duration(left)} left')
    self._writer.scalars(self._step, means)
    if bad:
      self._progress.say(
        f'Step {self._step:,}: {", ".join(bad)} not finite; training has '
        'diverged. Stop it, and try lower learning rates or a max_grad_norm.'
      )
    self._progress.report(self._step, '  '.join(parts))

  def _measure(self) -> dict[str, float]:
    """What the task measures of the state; arrays go to TensorBoard alone."""
    measured = jax.device_get(
      self._task.measure(self._parallel.local(self._state))
    )
    arrays = {k: v for k, v in measured.items() if np.ndim(v)}
    self._writer.histograms(self._step, arrays)
    return {k: float(v) for k, v in measured.items() if not np.ndim(v)}

  def _evaluate(self) -> dict[str, float]:
    """What samples score, where it is time to ask."""
    every = self._schedule.evaluate_every
    if not every or self._step % every:
      return {}
    scores = self._task.evaluate(self._parallel.local(self._state))
    numbers = (f'{k} {terminal.number(v)}' for k, v in scores.items())
    self._progress.say(f'Step {self._step:,}: {", ".join(numbers)}')
    return dict(scores)

  def _best_step(self) -> int | None:
    name = self._task.decisive_metric
    values = {row['step']: row.get(name) for row in self._writer.rows}
    return best.best_step(values, name)

  def _due_rows(self) -> list[Row]:
    """The metrics but for those of an interruption, which are of chance."""
    log_every = self._schedule.log_every
    return [row for row in self._writer.rows if row['step'] % log_every == 0]

  def _judge(self) -> None:
    """Says it, once, when the numbers say that training fails."""
    warning = self._task.judge(self._due_rows()).warning
    if warning and not self._is_warned:
      self._progress.say(f'Step {self._step:,}: {warning}')
    self._is_warned = warning is not None
    if warning and self._task.response.action != 'warn':
      self._failure = warning

  def _respond(self, failure: str) -> GoBack:
    """Keeps what the failure looks like, and goes back if it may."""
    jax.block_until_ready(self._state)
    state = self._parallel.local(self._state)
    self._draw(self._step, state)
    response, attempt = self._task.response, int(state.attempt)
    if response.action == 'stop':
      raise TrainingFailedError(
        f'step {self._step:,}: {failure} Stopped, as config.on_collapse asks.'
      )
    if attempt >= response.max_rollbacks:  # which may have been lowered
      raise TrainingFailedError(
        f'step {self._step:,}: {failure} Stopped after {attempt} rollbacks.'
      )
    # An interruption's checkpoint is no reason to go back to elsewhere.
    due = [
      step
      for step in self._checkpoints.steps()
      if step % self._schedule.checkpoint_every == 0
    ]
    step = healthy_step(due, self._due_rows(), self._task.judge, attempt)
    self._progress.say(
      f'Going back to step {step or 0:,} to draw everything anew: attempt '
      f'{attempt + 1} of {response.max_rollbacks}.'
    )
    return GoBack(step, attempt + 1)

  def _save(self) -> None:
    jax.block_until_ready(self._state)
    with self._meter.pause():
      whole = self._parallel.gather(self._state)
      items = {checkpoints_lib.STATE: whole, **self._task.export(whole)}
      self._checkpoints.save(
        self._step, items, dict(self._task.info), self._best_step()
      )

  def _profile(self, tracing: contextlib.ExitStack) -> None:
    """Begins or ends the trace that the schedule asks for."""
    steps = self._schedule.profile
    after = self._step + self._schedule.steps_per_call
    inside = (
      steps is not None and self._step < steps.stop and steps.start < after
    )
    if inside == self._is_tracing:
      return
    jax.block_until_ready(self._state)
    with self._meter.pause():
      if inside:
        tracing.callback(self._progress.say, f'Traced from step {self._step}.')
        tracing.enter_context(self._writer.trace())
      else:
        tracing.close()
    self._is_tracing = inside
