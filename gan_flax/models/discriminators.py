"""Shared parts of discriminators: spectral norm and minibatch deviation.

Dimensions: B batch, C features.
"""

from collections.abc import Callable
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.nn.norms import create_norm
from common_flax.nn.norms import Norm

GROUP_SIZE = 4  # examples per minibatch deviation, as in the paper
_EPSILON = 1e-8

Apply = Callable[[nn.Module, jax.Array], jax.Array]  # applies a layer to x


def discriminating(
  module: nn.Module, *, train: bool, **options: Any
) -> tuple[Apply, Norm]:
  """Creates the functions that apply and normalise a discriminator's layers.

  Args:
    module: has the attributes `norm`, one of NORMS; `has_spectral_norm`,
      whether each weight is divided by its largest singular value, estimated by
      one power iteration per call (Miyato et al. 2018, arXiv:1802.05957); and
      `norm_momentum`, `axis_name`, `dtype` and `param_dtype`.
    train: whether power iterations advance; see also `create_norm`.
    **options: see `create_norm`.

  Returns:
    A function that applies a named layer to x, and the norm.
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
    axis_name=module.axis_name,
    dtype=module.dtype,
    param_dtype=module.param_dtype,
    **options,
  )
  return apply, norm


def with_minibatch_deviation(x: jax.Array) -> jax.Array:
  """Appends a feature that measures how much neighbouring examples differ.

  It is the standard deviation of every feature over groups of 4 examples,
  averaged over features and positions (Karras et al. 2018, arXiv:1710.10196,
  section 3; UDL 15.3). It exposes a generator that repeats itself.

  Args:
    x: [B, ..., C]. If B is not a multiple of 4, groups have gcd(4, B) examples.

  Returns:
    [B, ..., C + 1], the last feature constant within a group.
  """
  size = math.gcd(GROUP_SIZE, len(x))
  groups = x.reshape(-1, size, *x.shape[1:])
  # The square root has no finite gradient at 0.
  deviations = jnp.sqrt(jnp.var(groups, axis=1) + _EPSILON)
  means = jnp.mean(deviations, axis=range(1, deviations.ndim))  # [B / 4]
  means = jnp.repeat(means, size)
  feature = jnp.broadcast_to(
    means.reshape(-1, *[1] * (x.ndim - 1)), (*x.shape[:-1], 1)
  )
  return jnp.concatenate([x, feature.astype(x.dtype)], axis=-1)
