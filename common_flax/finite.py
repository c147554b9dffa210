"""Numbers that are not finite: which they are, since when, how to pass them.

Dimensions: K steps a call.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from common_flax.sharding import Step

SKIPPED = 'skipped_steps'
_MAX_NAMES = 5


class FirstBad(NamedTuple):
  """The first of some calls with a metric that is not finite."""

  index: int  # of the call
  names: list[str]  # of its metrics


def first_bad(rows: Sequence[Mapping[str, Any]]) -> FirstBad | None:
  """Looks through the metrics of calls in their order."""
  for index, row in enumerate(rows):
    names = [name for name, value in row.items() if not math.isfinite(value)]
    if names:
      return FirstBad(index, names)
  return None


def skipping(steps: Step, num_steps: int) -> Step:
  """`steps`, but where a result is not finite it changes the step alone.

  Args:
    steps: several steps, see `sharding.in_one_call`.
    num_steps: K.

  Returns:
    The same with a metric more, how many steps were skipped: none or all K.
  """

  def guarded(state, batches, root, *, axis_name=None):
    after, metrics = steps(state, batches, root, axis_name=axis_name)
    is_good = _are_finite(jax.tree.leaves((after, metrics)))
    before = state.replace(step=after.step)
    # A choice of numbers would be compiled into all that makes them.
    state = lax.cond(
      is_good, lambda after, _: after, lambda _, before: before, after, before
    )
    return state, metrics | {SKIPPED: jnp.where(is_good, 0, num_steps)}

  return guarded


@jax.jit
def _are_finite(arrays: list[jax.Array]) -> jax.Array:
  return jnp.stack([jnp.isfinite(x).all() for x in arrays]).all()


def is_finite(tree: Any) -> bool:
  """Whether every number of a pytree is."""
  return bool(_are_finite(jax.tree.leaves(tree)))


def describe(state: Any) -> str:
  """Which arrays of a state hold numbers that are not finite, or the largest.

  Args:
    state: arrays on one device.

  Returns:
    'all of the state is finite, the largest number 1.2e+09 in NAME', or 'of the
    state NAME (3 of 128 numbers), NAME, ... are not finite', in its order.
  """
  bad, largest = [], (0.0, '')
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    values = np.asarray(leaf, np.float64)
    num_bad = int(np.sum(~np.isfinite(values)))
    if num_bad:
      bad.append(f'{name} ({num_bad:,} of {values.size:,} numbers)')
    elif values.size and np.issubdtype(leaf.dtype, np.inexact):
      largest = max(largest, (float(np.abs(values).max()), name))
  if not bad:
    value, name = largest
    return (
      f'all of the state is finite, the largest number {value:.2g} in {name}'
    )
  more = ', ...' if len(bad) > _MAX_NAMES else ''
  return f'of the state {", ".join(bad[:_MAX_NAMES])}{more} are not finite'
