"""The origin of a run's state: initialised, adopted or restored."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from etils import epath
import jax
import numpy as np

from common_flax.cpu import compiler
from common_flax.distributed import processes
from common_flax.errors import TrainingFailedError
from common_flax.errors import UserError
from common_flax.workdir import checkpoints as checkpoints_lib
from common_flax.workdir.checkpoints import CheckpointStore

State = Any  # a pytree of arrays with the fields `step` and `attempt`


@dataclasses.dataclass(frozen=True)
class Origin:
  """Initialises or restores the state of a run.

  Attributes:
    init: root key or keys -> state before the first step, pure.
    root: the root key or keys.
    sharding: sharding of the state.
    adopt: replaces the weights of the initial state; None keeps them.
  """

  init: Callable[[jax.Array], State]
  root: jax.Array
  sharding: jax.sharding.Sharding
  adopt: Callable[[State], State] | None

  @functools.cached_property
  def abstract(self) -> State:
    """The shapes and types of the state."""
    return jax.eval_shape(self.init, self.root)

  def check_adoption(self, init_from: epath.PathLike) -> None:
    """Checks that the weights of another run fit.

    Args:
      init_from: workdir of the other run.

    Raises:
      UserError: if they have other shapes or types, or cannot be adopted.
    """
    if self.adopt is None:
      raise UserError(
        f'--init_from={init_from}: this model cannot start from the weights of '
        'another run; leave it out'
      )
    state = self.abstract
    if _kinds(jax.eval_shape(self.adopt, state)) != _kinds(state):
      raise UserError(
        f'--init_from={init_from}: its networks have other shapes or types; '
        'use its config.model.*, config.compute_dtype and '
        'config.dataset.image_size, and images with as many channels'
      )

  def initial(self, attempt: int = 0) -> State:
    """The state before the first step, after `attempt` rollbacks."""
    # Compiled as a whole, so that no two parameters share a buffer.
    state = jax.jit(
      lambda: self.init(self.root),
      out_shardings=self.sharding,
      compiler_options=compiler.for_single_run(),
    )()
    if self.adopt is not None:
      state = jax.device_put(self.adopt(state), self.sharding)
    return self._with_attempt(state, attempt or None)

  def restored(
    self, store: CheckpointStore, step: int, attempt: int | None = None
  ) -> State:
    """The state of a checkpoint, with `attempt` rollbacks if it is given."""
    store.info(step)  # must be readable, because sampling needs it
    abstract = checkpoints_lib.abstract_like(
      lambda: self.init(self.root), self.sharding
    )
    state = store.restore(step, checkpoints_lib.STATE, abstract)
    return self._with_attempt(state, attempt)

  def newest(
    self, store: CheckpointStore, attempt: int | None = None
  ) -> tuple[int, State]:
    """The step and state of the newest intact checkpoint, or of the start.

    Raises:
      TrainingFailedError: if the processes read different checkpoints.
    """
    if not store.steps():
      return 0, self.initial(attempt or 0)
    step, state = store.newest(lambda step: self.restored(store, step, attempt))
    if processes.as_first_says(step) != [step]:
      raise TrainingFailedError(
        f'step {step:,}: the first process reads another checkpoint; give all '
        'processes the same --workdir'
      )
    store.discard_after(step)
    return step, state

  def before(
    self, store: CheckpointStore, step: int, attempt: int
  ) -> tuple[int, State]:
    """The newest checkpoint at or before `step`, else the start."""
    earlier = [other for other in store.steps() if other <= step]
    if not earlier:
      return 0, self.initial(attempt)
    return max(earlier), self.restored(store, max(earlier), attempt)

  def _with_attempt(self, state: State, attempt: int | None) -> State:
    """Sets the number of rollbacks, which makes all random draws new."""
    if attempt is None:
      return state
    numbers = np.full(state.attempt.shape, attempt, np.int32)
    return state.replace(attempt=jax.device_put(numbers, self.sharding))


def _kinds(tree: State) -> State:
  return jax.tree.map(lambda x: (x.shape, x.dtype), tree)
