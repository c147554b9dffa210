"""Normalisation of features, by name.

Dimensions: B batch, H height, W width, C features.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

from flax import linen as nn
import jax

NORMS = ('batch', 'layer', 'group', 'none')
_MAX_NUM_GROUPS = 32  # Wu & He (2018), arXiv:1803.08494, section 3.1

# Called with `name=`, it gives a function that normalises x [B, H, W, C] or
# [B, C] to mean 0 and variance 1, then scales and shifts it.
Norm = Callable[..., Callable[[jax.Array], jax.Array]]


def create_norm(
  kind: str,
  *,
  train: bool,
  momentum: float,
  axis_name: str | None,
  **options: Any,
) -> Norm:
  """Creates the normalisation of a module's layers, by name.

  Args:
    kind: 'batch' normalises each feature over the batch; 'layer' each example
      as a whole; 'group' each example in up to 32 groups of features; 'none'
      nothing.
    train: for 'batch', use the batch's statistics, not the running averages.
    momentum: for 'batch', the share of the running averages that an update
      keeps.
    axis_name: for 'batch', the mapped axis over which statistics are taken.
    **options: options of all kinds, such as `scale_init` and `dtype`.

  Raises:
    ValueError: if `kind` is unknown.
  """
  if kind == 'batch':
    return functools.partial(
      nn.BatchNorm,
      use_running_average=not train,
      momentum=momentum,
      axis_name=axis_name,
      **options,
    )
  if kind == 'layer':
    return functools.partial(_layer_norm, options)
  if kind == 'group':
    return functools.partial(_group_norm, options)
  if kind == 'none':
    return lambda name: lambda x: x
  raise ValueError(f'norm {kind!r}: must be one of {", ".join(NORMS)}')


def _layer_norm(
  options: dict[str, Any], name: str
) -> Callable[[jax.Array], jax.Array]:
  def normalise(x):
    axes = tuple(range(1, x.ndim))
    return nn.LayerNorm(
      reduction_axes=axes, feature_axes=-1, name=name, **options
    )(x)

  return normalise


def _group_norm(
  options: dict[str, Any], name: str
) -> Callable[[jax.Array], jax.Array]:
  def normalise(x):
    num_groups = math.gcd(_MAX_NUM_GROUPS, x.shape[-1])
    return nn.GroupNorm(num_groups=num_groups, name=name, **options)(x)

  return normalise
