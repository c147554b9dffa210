"""The training loop: restore or start, step, log, draw, checkpoint, finish.

The loop knows nothing of models. A family describes its training in a `Task` of
pure functions; the loop runs it, and leaves in the workdir what the README
lists. A run that is stopped and started again ends with the same bits as one
that never stopped.
"""

from etils import epath
import jax
import jax.numpy as jnp

from common_flax import checkpoints as checkpoints_lib
from common_flax import compiler
from common_flax import terminal
from common_flax.alarms import GoBack
from common_flax.checkpoints import Checkpoints
from common_flax.data.batches import prefetched
from common_flax.data.batches import stacked
from common_flax.sharding import Parallel
from common_flax.signals import Signals
from common_flax.task import Schedule
from common_flax.task import State
from common_flax.task import Task
from common_flax.training import Training
from common_flax.workdir import CHECKPOINTS
from common_flax.writers import RunWriter


def _restore_or_start(
  task: Task, checkpoints: Checkpoints, parallel: Parallel
) -> tuple[int, State]:
  """The newest good checkpoint's step and state, or those of the start."""
  sharding = parallel.state_sharding
  if not checkpoints.steps():
    # Compiled whole, so that no two parameters share a buffer.
    state = jax.jit(
      task.init, out_shardings=sharding, compiler_options=compiler.hastily()
    )()
    return 0, jax.device_put(task.adopt(state), sharding)
  abstract = checkpoints_lib.abstract_like(task.init, sharding)
  step, state = checkpoints.newest(
    lambda step: checkpoints.restore(step, checkpoints_lib.STATE, abstract)
  )
  checkpoints.discard_after(step)
  return step, state


def train(
  task: Task,
  schedule: Schedule,
  parallel: Parallel,
  workdir: epath.PathLike,
  root: jax.Array,
  description: str,
) -> int | None:
  """Trains until `num_steps` or a signal.

  Args:
    task: what to train.
    schedule: how long, and what to do on the way.
    parallel: how to run on the devices.
    workdir: the run's folder, which exists.
    root: the root key.
    description: of the run, for TensorBoard; Markdown.

  Returns:
    None once `num_steps` is reached, or the number of the signal that stopped
    training; in both cases the last step is checkpointed.

  Raises:
    TrainingFailedError: if the run's numbers say that it fails, and the task's
      response is to stop. Nothing is checkpointed then.
  """
  directory = epath.Path(workdir) / CHECKPOINTS
  with (
    Checkpoints(directory, schedule.keep_checkpoints) as checkpoints,
    Signals() as signals,
  ):
    start, state = _restore_or_start(task, checkpoints, parallel)
    if start >= schedule.num_steps:
      print(f'{workdir}: already finished, at step {start:,}.')
      return None
    terminal.print_parameters(task.networks(state))
    if start:
      print(f'Going on from step {start:,} in {workdir}.')

    def train_from(start: int, state: State) -> int | GoBack | None:
      with (
        RunWriter(workdir, start, task.curves) as writer,
        prefetched(
          stacked(task.batches(start), schedule.steps_per_call),
          parallel.put_batches,
        ) as batches,
        terminal.TrainingProgress(start, schedule.num_steps) as progress,
      ):
        if not start:
          writer.text('config', description)
        training = Training(
          task, schedule, parallel, checkpoints, writer, progress, start, state
        )
        return training.run(batches, root, signals)

    outcome = train_from(start, state)
    while isinstance(outcome, GoBack):
      checkpoints.discard_after(-1 if outcome.step is None else outcome.step)
      start, state = _restore_or_start(task, checkpoints, parallel)
      attempt = jnp.full_like(state.attempt, outcome.attempt)
      outcome = train_from(start, state.replace(attempt=attempt))
    return outcome
