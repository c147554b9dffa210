"""One run, or several at once that differ in their seed alone.

A training step is a pure function, so S runs take their steps in one compiled
function that `jax.vmap` makes of it; run s computes what it computes alone with
the seed `first + s`. Their states have a leading axis S, their batches an axis
S before B; a single run has neither.

Dimensions: S seeds, U batches a step, B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import functools
from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax import sharding
from common_flax.data.batches import Batch
from common_flax.data.batches import join
from common_flax.sharding import Parallel
from common_flax.sharding import Step

State = Any  # a pytree of arrays
Batches = Iterator[Batch]  # arrays [U, B, ...]
Draw = Callable[[jax.Array, State], np.ndarray]  # (root, state) -> picture
Measure = Callable[[jax.Array, State], dict[str, jax.Array]]  # the same


class Seeds(Protocol):
  """What is done to the functions of one run, so that they train all."""

  num: int

  def roots(self) -> jax.Array:
    """The root key [], or keys [S]."""

  def init(self, init: Callable[[jax.Array], State]) -> State:
    """What `init` makes of the root keys."""

  def member(self, tree: State, index: int) -> State:
    """What run `index`, counted from 0, would hold alone."""

  def step(self, step: Step) -> Step:
    """The step of all runs: metrics are means, each with its standard error."""

  def batches(self, of_seed: Callable[[int], Batches]) -> Batches:
    """The batches of all runs, those of each from `of_seed`."""

  def draw(self, draw: Draw, state: State) -> np.ndarray:
    """The pictures of all runs as one, uint8 [H, W, C]."""

  def measure(self, measure: Measure, state: State) -> dict[str, jax.Array]:
    """What `measure` makes of all runs: means, and the lowest."""

  def batch_shape(self, batches_per_step: int, size: int) -> tuple[int, ...]:
    """The axes of a step's batches before those of an example."""

  def parallel(self, parallelism: str) -> Parallel:
    """How to train on all devices."""


@dataclasses.dataclass(frozen=True)
class OneSeed:
  """A run by itself."""

  seed: int
  num = 1

  def roots(self) -> jax.Array:
    return prng.root_key(self.seed)

  def init(self, init: Callable[[jax.Array], State]) -> State:
    return init(self.roots())

  def member(self, tree: State, index: int) -> State:
    del index  # there is but one
    return tree

  def step(self, step: Step) -> Step:
    return step

  def batches(self, of_seed: Callable[[int], Batches]) -> Batches:
    return of_seed(self.seed)

  def draw(self, draw: Draw, state: State) -> np.ndarray:
    return draw(self.roots(), state)

  def measure(self, measure: Measure, state: State) -> dict[str, jax.Array]:
    return measure(self.roots(), state)

  def batch_shape(self, batches_per_step: int, size: int) -> tuple[int, ...]:
    return (batches_per_step, size)

  def parallel(self, parallelism: str) -> Parallel:
    return sharding.create(parallelism, sharding.create_mesh())


@dataclasses.dataclass(frozen=True)
class ManySeeds:
  """Runs side by side, of seeds that follow one another."""

  first: int
  num: int

  def roots(self) -> jax.Array:
    return jnp.stack([prng.root_key(self.first + i) for i in range(self.num)])

  def init(self, init: Callable[[jax.Array], State]) -> State:
    return jax.vmap(init)(self.roots())

  def member(self, tree: State, index: int) -> State:
    return jax.tree.map(lambda x: x[index], tree)

  def step(self, step: Step) -> Step:
    def steps(state, batch, roots, *, axis_name=None):
      one = functools.partial(step, axis_name=axis_name)
      state, metrics = jax.vmap(one, in_axes=(0, 1, 0))(state, batch, roots)
      return state, _summarised(metrics)

    return steps

  def batches(self, of_seed: Callable[[int], Batches]) -> Batches:
    each = [of_seed(self.first + i) for i in range(self.num)]
    for together in zip(*each, strict=True):
      yield join(together, axis=1)

  def draw(self, draw: Draw, state: State) -> np.ndarray:
    pictures = [
      draw(root, self.member(state, i)) for i, root in enumerate(self.roots())
    ]
    return images_lib.grid(np.stack(pictures))

  def measure(self, measure: Measure, state: State) -> dict[str, jax.Array]:
    measured = jax.vmap(measure)(self.roots(), state)
    lowest = {f'{name}_lowest': x.min() for name, x in measured.items()}
    return {name: x.mean() for name, x in measured.items()} | lowest

  def batch_shape(self, batches_per_step: int, size: int) -> tuple[int, ...]:
    return (batches_per_step, self.num, size)

  def parallel(self, parallelism: str) -> Parallel:
    del parallelism  # each device has runs of its own
    return sharding.over_seeds(self.num)


def create(first: int, num: int) -> Seeds:
  """The seeds from `first` on."""
  return OneSeed(first) if num == 1 else ManySeeds(first, num)


def _summarised(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
  means = {name: jnp.mean(values) for name, values in metrics.items()}
  errors = {
    f'{name}_standard_error': jnp.std(values, ddof=1) / jnp.sqrt(len(values))
    for name, values in metrics.items()
  }
  return means | errors
