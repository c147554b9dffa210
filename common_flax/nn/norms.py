"""Normalisations of features, by name, and of weights.

Dimensions: B batch, H height, W width, C features.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

NORMS = ('batch', 'layer', 'group', 'none')
_NUM_GROUPS = 32  # at most; Wu & He (2018), arXiv:1803.08494, section 3.1

# name -> (x [B, H, W, C] or [B, C] -> x of mean 0 and variance 1, scaled and
# shifted)
Norm = Callable[..., Callable[[jax.Array], jax.Array]]


def create_norm(
  kind: str,
  *,
  train: bool,
  momentum: float,
  axis_name: str | None,
  **options: Any,
) -> Norm:
  """What a module normalises its layers with, to be called with `name=`.

  Args:
    kind: 'batch', each feature over the batch; 'layer', each example as a
      whole; 'group', each example's features in up to 32 groups; or 'none'.
    train: of 'batch': the batch's statistics instead of the averages.
    momentum: of 'batch': share of the averages kept at each update.
    axis_name: of 'batch': mapped axis over which statistics are taken.
    **options: of every kind, as `scale_init` and `dtype`.

  Raises:
    ValueError: if there is no such kind.
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
  raise ValueError(f'norm {kind!r}: is one of {", ".join(NORMS)}')


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
    num_groups = math.gcd(_NUM_GROUPS, x.shape[-1])
    return nn.GroupNorm(num_groups=num_groups, name=name, **options)(x)

  return normalise


def apply_layer(
  layer: nn.Module,
  x: jax.Array,
  *,
  has_spectral_norm: bool,
  train: bool,
  dtype: jnp.dtype,
) -> jax.Array:
  """What a layer with a name makes of x, its weights normalised or not.

  Args:
    layer: of the module that calls this.
    x: its input.
    has_spectral_norm: whether weights are divided by their largest singular
      value (Miyato et al. 2018, arXiv:1802.05957), found by one power
      iteration each time.
    train: whether the power iteration goes on.
    dtype: of the power iteration.
  """
  if not has_spectral_norm:
    return layer(x)
  norm = nn.SpectralNorm(
    layer, dtype=dtype, param_dtype=dtype, name=f'{layer.name}_spectral'
  )
  return norm(x, update_stats=train)
