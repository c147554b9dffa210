"""A run on its way from one step to the next: step, log, draw, checkpoint.

It knows nothing of models, only its `Task`. Every process of a run does the
same; the first alone has a reporter, and the others do as it says.
"""

from collections.abc import Iterator
import contextlib
import gc
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import checkpoints as checkpoints_lib
from common_flax import compiler
from common_flax import files
from common_flax import finite
from common_flax import meter
from common_flax import processes
from common_flax import sharding
from common_flax import terminal
from common_flax.alarms import GoBack
from common_flax.alarms import TrainingFailedError
from common_flax.checkpoints import Checkpoints
from common_flax.data.batches import Batch
from common_flax.processes import Ballot
from common_flax.reporter import Reporter
from common_flax.sharding import Parallel
from common_flax.signals import Signals
from common_flax.task import Policy
from common_flax.task import Schedule
from common_flax.task import State
from common_flax.task import Task
from common_flax.writers import RunWriter


@jax.jit
def _copy(state: State) -> State:
  return jax.tree.map(jnp.copy, state)


class NotFinite(NamedTuple):
  """The first steps with a metric that is not finite."""

  before: int  # steps were completed before them
  names: list[str]  # of the metrics


class Training:
  """A run from where it starts until it ends, is stopped, or fails."""

  def __init__(
    self,
    task: Task,
    schedule: Schedule,
    policy: Policy,
    parallel: Parallel,
    checkpoints: Checkpoints,
    writer: RunWriter | None,  # of the first process
    progress: terminal.TrainingProgress,
    step: int,
    state: State,
  ):
    self._task = task
    self._schedule = schedule
    self._policy = policy
    self._parallel = parallel
    self._checkpoints = checkpoints
    self._progress = progress
    self._step = self._start = step
    self._state = parallel.spread(state)
    self._steps = self._compile()
    self._meter = meter.Meter()
    self._reporter = writer and Reporter(
      task, schedule, writer, progress, self._meter
    )
    self._ballot = Ballot()
    self._num_skipped = 0
    self._unsaved: int | None = None  # the step that could not be saved last
    self._is_tracing = False
    self._failure: str | None = None  # which the run does not go on with
    self._not_finite: NotFinite | None = None

  def _compile(self) -> sharding.Step:
    task, num_steps = self._task, self._schedule.steps_per_call
    steps = sharding.in_one_call(
      task.step, num_steps, unroll_on_cpu=task.is_convolutional
    )
    if self._policy.on_nan == 'skip':
      steps = finite.skipping(steps, num_steps)
    options = {} if task.is_convolutional else compiler.for_dense_networks()
    return self._parallel.compile(meter.packing(steps), options)

  def run(
    self, batches: Iterator[Batch], root: jax.Array, signals: Signals
  ) -> int | GoBack | NotFinite | None:
    """Steps until the end, a signal, or a failure that has a remedy.

    Returns:
      None, the signal's number, what to do about the failure, or which step is
      to be looked into.

    Raises:
      TrainingFailedError: of a failure that is to stop the run.
    """
    try:
      return self._run(batches, root, signals)
    finally:
      gc.unfreeze()

  def _run(
    self, batches: Iterator[Batch], root: jax.Array, signals: Signals
  ) -> int | GoBack | NotFinite | None:
    # It shows the start, and is drawn when the first step is on its way.
    initial = None if self._start else _copy(self._parallel.local(self._state))
    stopped_by = 0
    profile = self._schedule.profile
    if profile and profile.stop <= self._start:
      self._progress.say(
        f'Nothing is traced: the steps {profile.start:,} to '
        f'{profile.stop - 1:,} were taken before.'
      )
    with contextlib.ExitStack() as tracing:
      for batch in batches:
        self._profile(tracing)
        self._advance(batch, root)
        if initial is not None:
          self._draw(0, initial)
          initial = None
        stopped_by = self._ballot.vote(signals.received or 0)
        if self._follow_up(is_stopped=bool(stopped_by)):
          break
        if self._not_finite:
          return self._not_finite
        if self._failure:
          return self.respond(self._failure)
    self._settle()
    if self._unsaved is not None:
      raise TrainingFailedError(
        f'step {self._unsaved:,} is done, but could not be saved; start again '
        'from the checkpoint before, when there is room'
      )
    return None if self._is_finished() else stopped_by

  @property
  def attempt(self) -> int:
    """How often the run went back."""
    return int(np.max(self._parallel.local(self._state).attempt))

  def replay(self, batches: Iterator[Batch], root: jax.Array, stop: int) -> str:
    """Steps to `stop` and the next call, and describes the state around it.

    Nothing is written: these steps were taken before.
    """
    for batch in batches:
      if self._step == stop:
        before = finite.describe(self._parallel.local(self._state))
        self._state, _ = self._steps(self._state, batch, root)
        after = finite.describe(self._parallel.local(self._state))
        return f'before it {before}; after it {after}'
      self._state, _ = self._steps(self._state, batch, root)
      self._step += self._schedule.steps_per_call
      self._progress.advance(self._step)
    raise ValueError(f'step {stop} is not among those of the run')

  def _is_finished(self) -> bool:
    return self._step == self._schedule.num_steps

  def _follow_up(self, *, is_stopped: bool) -> bool:
    """Logs, draws and saves where it is time; whether the last step is done."""
    schedule = self._schedule
    finished = self._is_finished()
    last = finished or is_stopped
    is_due = self._step % schedule.log_every == 0
    saves = self._step % schedule.checkpoint_every == 0 or last
    if is_due or saves:
      self._look_for_nan(before_saving=saves)
    if is_due or last:
      self._report()
    if is_due and not self._not_finite:
      self._judge()
    if self._failure or self._not_finite:
      return False
    draws = self._step % schedule.sample_every == 0 or finished
    if draws:
      jax.block_until_ready(self._state)
      self._draw(self._step, self._parallel.local(self._state))
    if finished and self._reporter:
      with self._writing('samples.gif'):
        self._reporter.finish()  # before the checkpoint that says so
    if saves:
      self._save()
    if draws and not finished:
      self._draw_curves()  # which would slow down saving
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
      gc.freeze()  # not to search what compiling left, 150 ms, again and again
      self._meter.restart_clock()
    self._progress.advance(self._step)

  def _draw(self, step: int, state: State) -> None:
    if self._reporter:
      with self._writing('the picture'):
        self._reporter.draw(step, state)

  def _draw_curves(self, *, in_any_case: bool = False) -> None:
    if self._reporter:
      with self._writing('curves.png'):
        self._reporter.draw_curves(in_any_case=in_any_case)

  def _look_for_nan(self, *, before_saving: bool) -> None:
    """Notes the first steps that went wrong, unless they may."""
    bad = self._meter.first_bad(self._parallel.local)
    if bad is None and before_saving:
      # An update's numbers show in the metrics of the next step.
      is_good = finite.is_finite(self._parallel.local(self._state))
      bad = None if is_good else (0, ['parameters'])
    if bad is None:
      return
    calls_since, names = bad
    num_steps = self._schedule.steps_per_call
    first = self._step - (calls_since + 1) * num_steps
    if self._policy.on_nan == 'warn':
      self._progress.say(
        f'Step {first + num_steps:,}: {", ".join(names)} not finite; training '
        'has diverged. Stop it, and try lower learning rates or a '
        'max_grad_norm.'
      )
    else:
      self._not_finite = NotFinite(first, names)

  def _report(self) -> None:
    means, seconds = self._meter.read(self._parallel.local)
    self._count_skipped(int(means.get(finite.SKIPPED, 0)))
    if self._reporter:
      state = self._parallel.local(self._state)
      with self._writing('the metrics'):
        self._reporter.report(self._step, means, seconds, state)

  def _count_skipped(self, num: int) -> None:
    self._num_skipped += num
    if num:
      self._progress.say(
        f'Step {self._step:,}: {num:,} steps skipped, whose results were not '
        f'finite; {self._num_skipped:,} in all.'
      )
    if self._num_skipped > self._policy.max_skips:
      raise TrainingFailedError(
        f'step {self._step:,}: {self._num_skipped:,} steps skipped, and '
        f'config.on_nan_max_skips={self._policy.max_skips}. Try lower learning '
        'rates or a max_grad_norm.'
      )

  def _judge(self) -> None:
    """Asks whether training fails, in the first process's opinion."""
    warning = self._reporter and self._reporter.warning(self._step)
    if self._task.response.action == 'warn':
      return
    (is_failing,) = processes.as_first_says(bool(warning))
    if is_failing:
      self._failure = warning or 'its numbers say that it fails.'

  def respond(self, failure: str) -> GoBack:
    """Keeps what the failure looks like, and goes back if it may."""
    jax.block_until_ready(self._state)
    state = self._parallel.local(self._state)
    self._draw(self._step, state)
    self._draw_curves(in_any_case=True)
    response = self._task.response
    if response.action == 'stop':
      raise TrainingFailedError(
        f'step {self._step:,}: {failure} Stopped, as config.on_collapse asks.'
      )
    return self.go_back(failure, response.max_rollbacks)

  def go_back(self, failure: str, max_rollbacks: int) -> GoBack:
    """Where to go on from after a failure.

    Raises:
      TrainingFailedError: if it went back often enough.
    """
    attempt = self.attempt
    if attempt >= max_rollbacks:  # which may have been lowered
      raise TrainingFailedError(
        f'step {self._step:,}: {failure} Stopped after {attempt} rollbacks.'
      )
    # An interruption's checkpoint is no reason to go back to elsewhere.
    due = [
      step
      for step in self._checkpoints.steps()
      if step % self._schedule.checkpoint_every == 0
    ]
    step = self._reporter and self._reporter.healthy_step(due, attempt)
    (step,) = processes.as_first_says(step or 0)
    self._progress.say(
      f'Going back to step {step:,} to draw everything anew: attempt '
      f'{attempt + 1} of {max_rollbacks}.'
    )
    return GoBack(step or None, attempt + 1)

  def _save(self) -> None:
    jax.block_until_ready(self._state)
    with self._meter.pause():
      self._settle()
      whole = self._parallel.gather(self._state)
      items = {checkpoints_lib.STATE: whole, **self._task.export(whole)}
      best = self._reporter and self._reporter.best_step()
      (best,) = processes.as_first_says(best or 0)
      self._unsaved = self._step
      with self._writing_checkpoint():
        self._checkpoints.save(
          self._step, items, dict(self._task.info), best or None
        )

  def _settle(self) -> None:
    """Waits until the last checkpoint is whole, or known to fail."""
    with self._writing_checkpoint():
      self._checkpoints.wait()
      self._unsaved = None

  @contextlib.contextmanager
  def _writing_checkpoint(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:  # Orbax raises many types
      self._checkpoints.forget_failure()
      self._cannot_write(f'the checkpoint of step {self._unsaved:,}', error)

  @contextlib.contextmanager
  def _writing(self, what: str) -> Iterator[None]:
    """Says what of the first process's files cannot be written."""
    try:
      yield
    except Exception as error:
      if not files.is_file_error(error):
        raise
      self._cannot_write(what, error)

  def _cannot_write(self, what: str, error: Exception) -> None:
    """Says so, and stops if that is asked for.

    Several processes stop in any case: they have to agree on what is saved.
    """
    reason = checkpoints_lib.reason(error)
    message = f'step {self._step:,}: {what} cannot be written: {reason}'
    if self._policy.on_save_error == 'stop' or processes.count() > 1:
      raise TrainingFailedError(
        f'{message}. Checkpoints written before are whole'
      ) from error
    self._progress.say(f'{message}; going on without, as asked')

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
      if inside and self._reporter:
        tracing.callback(self._progress.say, f'Traced from step {self._step}.')
        tracing.enter_context(self._reporter.trace())
      else:
        tracing.close()
    self._is_tracing = inside
