"""Normalisations of features, by name, and of weights.

Dimensions: B batch, H height, W width, C features.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

from flax import linen as nn
import jax

NORMS = ('batch', 'layer', 'group', 'none')
_NUM_GROUPS = 32  # at most; Wu & He (2018), arXiv:1803.08494, section 3.1

# name -> (x [B, H, W, C] or [B, C] -> x of mean 0 and variance 1, scaled and
# shifted)
Norm = Callable[..., Callable[[jax.Array], jax.Array]]
Apply = Callable[[nn.Module, jax.Array], jax.Array]  # a layer to x


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


def discriminating(
  module: nn.Module, *, train: bool, axis_name: str | None, **options: Any
) -> tuple[Apply, Norm]:
  """What a discriminator makes its layers with.

  Args:
    module: with the attributes `norm`, one of NORMS; `has_spectral_norm`,
      whether weights are divided by their largest singular value (Miyato et
      al. 2018, arXiv:1802.05957), found by one power iteration each time; and
      `norm_momentum`, `dtype` and `param_dtype`.
    train: whether power iterations go on; see `create_norm`.
    axis_name: see `create_norm`.
    **options: of the norm.

  Returns:
    A function that applies a layer with a name to x, and the norm.
  """

  def apply(layer: nn.Module, x: jax.Array) -> jax.Array:
    if not module.has_spectral_norm:
      return layer(x)
    spectral_norm = nn.SpectralNorm(
      layer,
      dtype=module.param_dtype,
      param_dtype=module.param_dtype,
      name=f'{layer.name}_spectral',
    )
    return spectral_norm(x, update_stats=train)

  norm = create_norm(
    module.norm,
    train=train,
    momentum=module.norm_momentum,
    axis_name=axis_name,
    dtype=module.dtype,
    param_dtype=module.param_dtype,
    **options,
  )
  return apply, norm
