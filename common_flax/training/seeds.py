"""Several runs at once that differ only in their seeds.

A train step is a pure function, so `jax.vmap` turns the step of one run into
the step of S runs; run s computes what it would compute alone with the seed
`first + s`. States gain a leading axis S, and batches an axis S before B.

Dimensions: S seeds, U batches per step, B batch.
"""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common_flax import prng
from common_flax.data.batches import Batch
from common_flax.data.batches import join
from common_flax.distributed.sharding import Step

State = Any  # a pytree of arrays


class Functions(NamedTuple):
  """The three functions that define a training run."""

  init: Callable[[jax.Array], State]  # root key -> the state before any step
  step: Step
  # seed, steps completed -> batches [U, B, ...] of the steps that follow
  batches: Callable[[int, int], Iterator[Batch]]


def root_keys(first: int, num: int) -> jax.Array:
  """The root key [] of one run, or the root keys [S] of several."""
  if num == 1:
    return prng.root_key(first)
  return jnp.stack([prng.root_key(first + i) for i in range(num)])


def vectorise(functions: Functions, num: int) -> Functions:
  """Turns the functions of one run into those of `num` runs.

  Args:
    functions: the functions of one run.
    num: S; 1 returns `functions` unchanged.

  Returns:
    `init` takes keys [S]; `step` takes states [S, ...], batches [U, S, B, ...]
    and keys [S], and its metrics are means over the runs, each with its
    standard error; `batches` takes the first seed.
  """
  if num == 1:
    return functions

  def step(state, batch, roots):
    state, metrics = jax.vmap(functions.step, in_axes=(0, 1, 0))(
      state, batch, roots
    )
    return state, _means(metrics)

  def batches(first: int, start_step: int) -> Iterator[Batch]:
    each = [functions.batches(first + i, start_step) for i in range(num)]
    for together in zip(*each, strict=True):
      yield join(together, axis=1)

  return Functions(jax.vmap(functions.init), step, batches)


def member(tree: State, index: int, num: int) -> State:
  """The part of `tree` that belongs to run `index` of `num`."""
  return tree if num == 1 else jax.tree.map(lambda x: x[index], tree)


def measure(
  function: Callable[[jax.Array, State], dict[str, jax.Array]],
  roots: jax.Array,
  state: State,
  num: int,
) -> dict[str, jax.Array]:
  """Measures each run; returns means and lowest values if there are several.

  Args:
    function: (root, state) -> numbers by name, for one run.
    roots: the keys from `root_keys`.
    state: the state of all runs.
    num: S.
  """
  if num == 1:
    return function(roots, state)
  measured = jax.vmap(function)(roots, state)
  lowest = {f'{name}_lowest': x.min() for name, x in measured.items()}
  return {name: x.mean() for name, x in measured.items()} | lowest


def _means(metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
  means = {name: jnp.mean(values) for name, values in metrics.items()}
  errors = {
    f'{name}_standard_error': jnp.std(values, ddof=1) / jnp.sqrt(len(values))
    for name, values in metrics.items()
  }
  return means | errors
