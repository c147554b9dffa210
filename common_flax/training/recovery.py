"""Takes a failed run back to a healthy checkpoint, or stops it."""

from collections.abc import Callable
from collections.abc import Sequence

from common_flax.cli import terminal
from common_flax.distributed import processes
from common_flax.errors import TrainingFailedError
from common_flax.training import finite
from common_flax.training import health
from common_flax.training.health import FailingError
from common_flax.training.health import NotFiniteError
from common_flax.training.loop import Hook
from common_flax.training.loop import Run
from common_flax.training.origin import Origin
from common_flax.training.seeds import Functions
from common_flax.training.watch import Watch
from common_flax.workdir import writers


def go_back(
  run: Run,
  error: FailingError | NotFiniteError,
  call: Callable,
  origin: Origin,
  functions: Functions,
  hooks: Sequence[Hook],
  attempt: int,
) -> None:
  """Discards the checkpoints after the one that a failed run goes back to.

  Args:
    run: the run.
    error: the error that the loop raised.
    call: the compiled step.
    origin: the origin of the run's state.
    functions: the functions of the run.
    hooks: the hooks of the run.
    attempt: number of rollbacks taken so far.

  Raises:
    TrainingFailedError: if the run has to stop.
  """
  if isinstance(error, NotFiniteError):
    around = replay(run, call, origin, functions, error.before, attempt)
    reason, limit = _not_finite(run, error, around)
  else:
    reason, limit = error.failure.reason, error.failure.max_rollbacks
    if error.failure.action == 'stop':
      raise TrainingFailedError(
        f'step {error.step:,}: {reason} Stopped because '
        f'config.{error.failure.field}=stop.'
      )
  if attempt >= limit:  # the limit may have been lowered
    rollbacks = terminal.counted(attempt, 'rollback')
    raise TrainingFailedError(
      f'step {error.step:,}: {reason} Stopped after {rollbacks}.'
    )
  run.checkpoints.settle()  # what fails to be saved is no target
  target = _target(run, attempt, hooks) if run.is_first_process else None
  (target,) = processes.as_first_says(target or 0)
  print(
    f'Going back to step {target:,} with new random draws: attempt '
    f'{attempt + 1} of {limit}.'
  )
  run.checkpoints.discard_after(target)


def _not_finite(
  run: Run, error: NotFiniteError, around: str
) -> tuple[str, int]:
  """The reason to go back and the maximum number of rollbacks.

  Raises:
    TrainingFailedError: unless config.on_nan='rollback'.
  """
  first = error.before + 1
  reason = f'{", ".join(error.names)} not finite; {around}'
  if run.config.on_nan != 'rollback':
    raise TrainingFailedError(
      f'step {first:,}: {reason}. Try lower learning rates or a max_grad_norm, '
      'or config.on_nan=skip or rollback'
    )
  print(f'Step {first:,}: {reason}')
  return 'not finite.', run.config.on_nan_max_rollbacks


def _target(run: Run, attempt: int, hooks: Sequence[Hook]) -> int | None:
  """The step of the checkpoint to go back to; None for the start."""
  # A checkpoint saved at an interruption must not change the target.
  regular = [
    step
    for step in run.checkpoints.steps()
    if step % run.config.checkpoint_every_steps == 0
  ]
  rows = [
    row
    for row in writers.read_rows(run.workdir)
    if row['step'] % run.config.log_every_steps == 0
  ]
  judges = [hook.judge for hook in hooks if isinstance(hook, Watch)]
  return health.healthy_step(regular, rows, judges, attempt)


def replay(
  run: Run,
  call: Callable,
  origin: Origin,
  functions: Functions,
  stop: int,
  attempt: int,
) -> str:
  """Repeats steps up to the failed call, and describes the state around it.

  The steps are the same bit for bit, and nothing is written. The state at the
  time of detection would not show the cause, because NaNs spread.

  Args:
    run: the run.
    call: the compiled step.
    origin: the origin of the run's state.
    functions: the functions of the run.
    stop: steps completed before the failed call.
    attempt: number of rollbacks taken so far.
  """
  start, state = origin.before(run.checkpoints, stop, attempt)
  state = run.parallel.spread(state)
  print(f'Repeating steps {start + 1:,} to {stop + 1:,} to find the cause.')
  with run.stepping(start, functions) as batches:
    for step in range(start, stop, run.config.steps_per_call):
      state, _ = call(state, next(batches), run.root)
      run.progress.advance(step)
    before = finite.describe(run.parallel.local(state))
    state, _ = call(state, next(batches), run.root)
    after = finite.describe(run.parallel.local(state))
  return f'before it, {before}; after it, {after}'
