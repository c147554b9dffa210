"""Detects numbers that are not finite, and skips the steps that gave them."""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

SKIPPED = 'skipped_steps'
_MAX_NAMES = 5


class FirstBad(NamedTuple):
  """The first call with a metric that is not finite."""

  index: int  # index of the call
  names: list[str]  # names of its metrics that are not finite


def first_bad(rows: Sequence[Mapping[str, Any]]) -> FirstBad | None:
  """Finds the first row with a metric that is not finite, if any."""
  for index, row in enumerate(rows):
    names = [name for name, value in row.items() if not math.isfinite(value)]
    if names:
      return FirstBad(index, names)
  return None


def skip_if_not_finite(before: Any, after: Any, metrics: Any) -> Any:
  """Returns `after` if it and the metrics are finite, else `before`.

  Args:
    before: the state before a call; returned with the step of `after`.
    after: the state after the call.
    metrics: metrics of the call.

  Returns:
    The state, and whether it is `after`, bool [].
  """
  is_good = are_finite(jax.tree.leaves((after, metrics)))
  # Selecting numbers with `where` would be fused into what computes them.
  state = lax.cond(
    is_good,
    lambda after, _: after,
    lambda _, before: before,
    after,
    before.replace(step=after.step),
  )
  return state, is_good


@jax.jit
def are_finite(arrays: list[jax.Array]) -> jax.Array:
  """Whether every number of every array is finite, bool []."""
  return jnp.stack([jnp.isfinite(x).all() for x in arrays]).all()


def is_finite(tree: Any) -> bool:
  """Whether every number of a pytree is finite."""
  return bool(are_finite(jax.tree.leaves(tree)))


def describe(state: Any) -> str:
  """Names the arrays of a state that are not finite, or the largest number.

  Args:
    state: arrays on one device.

  Returns:
    'the whole state was finite (largest number 1.2e+09 in NAME)', or 'the state
    was not finite in NAME (3 of 128 numbers), NAME, ...', in pytree order.
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
    return f'the whole state was finite (largest number {value:.2g} in {name})'
  more = ', ...' if len(bad) > _MAX_NAMES else ''
  return f'the state was not finite in {", ".join(bad[:_MAX_NAMES])}{more}'
