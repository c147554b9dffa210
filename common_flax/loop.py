"""The training loop: restore or start, step, log, draw, checkpoint, finish.

The loop knows nothing of models. A family describes its training in a `Task` of
pure functions; the loop runs it, and leaves in the workdir what the README
lists. A run that is stopped and started again ends with the same bits as one
that never stopped.
"""

from collections.abc import Iterator
import contextlib

from etils import epath
import jax
import numpy as np

from common_flax import checkpoints as checkpoints_lib
from common_flax import compiler
from common_flax import processes
from common_flax import terminal
from common_flax.alarms import GoBack
from common_flax.alarms import TrainingFailedError
from common_flax.checkpoints import Checkpoints
from common_flax.data.batches import prefetched
from common_flax.data.batches import stacked
from common_flax.sharding import Parallel
from common_flax.signals import Signals
from common_flax.task import Policy
from common_flax.task import Schedule
from common_flax.task import State
from common_flax.task import Task
from common_flax.training import NotFinite
from common_flax.training import Training
from common_flax.workdir import CHECKPOINTS
from common_flax.writers import RunWriter


class Loop:
  """One run, from wherever it stands."""

  def __init__(
    self,
    task: Task,
    schedule: Schedule,
    policy: Policy,
    parallel: Parallel,
    workdir: epath.PathLike,
    root: jax.Array,
    description: str,
    checkpoints: Checkpoints,
    signals: Signals,
  ):
    self._task = task
    self._schedule = schedule
    self._policy = policy
    self._parallel = parallel
    self._workdir = workdir
    self._root = root
    self._description = description
    self._checkpoints = checkpoints
    self._signals = signals

  def run(self) -> int | None:
    """Trains to the end; see `train`."""
    start, state = self._restore_or_start()
    if start >= self._schedule.num_steps:
      print(f'{self._workdir}: already finished, at step {start:,}.')
      return None
    if processes.is_first():
      terminal.print_parameters(self._task.networks(state))
    if start:
      print(f'Going on from step {start:,} in {self._workdir}.')
    outcome = self._train_from(start, state)
    while isinstance(outcome, GoBack):
      self._checkpoints.discard_after(outcome.step or -1)
      start, state = self._restore_or_start()
      state = self._with_attempt(state, outcome.attempt)
      outcome = self._train_from(start, state)
    return outcome

  def _restore_or_start(self) -> tuple[int, State]:
    """The newest good checkpoint's step and state, or those of the start."""
    if not self._checkpoints.steps():
      return 0, self._start()
    step, state = self._checkpoints.newest(self._restore)
    if processes.as_first_says(step) != [step]:
      raise TrainingFailedError(
        f'step {step:,}: the first process reads another checkpoint; all of '
        'them need the same --workdir'
      )
    self._checkpoints.discard_after(step)
    return step, state

  def _start(self) -> State:
    sharding = self._parallel.state_sharding
    # Compiled whole, so that no two parameters share a buffer.
    state = jax.jit(
      self._task.init,
      out_shardings=sharding,
      compiler_options=compiler.hastily(),
    )()
    return jax.device_put(self._task.adopt(state), sharding)

  def _restore(self, step: int) -> State:
    abstract = checkpoints_lib.abstract_like(
      self._task.init, self._parallel.state_sharding
    )
    self._checkpoints.info(step)  # which sampling will need
    return self._checkpoints.restore(step, checkpoints_lib.STATE, abstract)

  def _with_attempt(self, state: State, attempt: int) -> State:
    numbers = np.full(state.attempt.shape, attempt, np.int32)
    sharding = self._parallel.state_sharding
    return state.replace(attempt=jax.device_put(numbers, sharding))

  @contextlib.contextmanager
  def _training(
    self, start: int, state: State, writer: RunWriter | None
  ) -> Iterator[tuple[Training, Iterator]]:
    """A run from a step on, and its batches on the devices."""
    batches = self._task.batches(start)
    with (
      prefetched(
        stacked(batches, self._schedule.steps_per_call),
        self._parallel.put_batches,
      ) as ready,
      terminal.TrainingProgress(start, self._schedule.num_steps) as progress,
    ):
      training = Training(
        self._task,
        self._schedule,
        self._policy,
        self._parallel,
        self._checkpoints,
        writer,
        progress,
        start,
        state,
      )
      yield training, ready

  def _train_from(self, start: int, state: State) -> int | GoBack | None:
    writer = contextlib.nullcontext()
    if processes.is_first():
      writer = RunWriter(self._workdir, start, self._task.curves)
    with writer as writer, self._training(start, state, writer) as parts:
      if writer and not start:
        writer.text('config', self._description)
      training, batches = parts
      outcome = training.run(batches, self._root, self._signals)
    if not isinstance(outcome, NotFinite):
      return outcome
    failure = self._look_into(outcome, training.attempt)
    if self._policy.on_nan == 'rollback':
      print(f'Step {outcome.before + 1:,}: {failure}')
      return training.go_back('not finite.', self._policy.max_rollbacks)
    raise TrainingFailedError(
      f'step {outcome.before + 1:,}: {failure}. Try lower learning rates or a '
      'max_grad_norm, or config.on_nan=skip or rollback'
    )

  def _look_into(self, bad: NotFinite, attempt: int) -> str:
    """What went wrong first: its steps taken again from a checkpoint.

    They are the same bits. A state that is not finite for a while tells nothing
    of how it came about.
    """
    starts = [step for step in self._checkpoints.steps() if step <= bad.before]
    start = max(starts, default=0)
    state = self._restore(start) if start else self._start()
    state = self._with_attempt(state, attempt)
    print(f'Taking the steps {start + 1:,} to {bad.before + 1:,} again to see.')
    with self._training(start, state, None) as (training, batches):
      around = training.replay(batches, self._root, bad.before)
    return f'{", ".join(bad.names)} not finite; {around}'


def train(
  task: Task,
  schedule: Schedule,
  policy: Policy,
  parallel: Parallel,
  workdir: epath.PathLike,
  root: jax.Array,
  description: str,
  signals: Signals,
) -> int | None:
  """Trains until `num_steps` or a signal.

  Args:
    task: what to train.
    schedule: how long, and what to do on the way.
    policy: what to do about faults.
    parallel: how to run on the devices.
    workdir: the run's folder, which exists.
    root: the root key.
    description: of the run, for TensorBoard; Markdown.
    signals: that may ask it to stop.

  Returns:
    None once `num_steps` is reached, or the number of the signal that stopped
    training; in both cases the last step is checkpointed.

  Raises:
    TrainingFailedError: if the run's numbers say that it fails, or it cannot be
      saved, and the config asks to stop then. Nothing is checkpointed then.
  """
  directory = epath.Path(workdir) / CHECKPOINTS
  with (
    signals.held(),
    Checkpoints(directory, schedule.keep_checkpoints) as checkpoints,
  ):
    return Loop(
      task,
      schedule,
      policy,
      parallel,
      workdir,
      root,
      description,
      checkpoints,
      signals,
    ).run()
