"""Conditioning of networks on class labels (UDL 15.4).

With `projection`, the generator's norms have a scale and a shift for each class
(de Vries et al. 2017, arXiv:1707.00683), and the discriminator adds to its
logit how well an example's features fit its class (Miyato & Koyama 2018,
arXiv:1802.05637). With `concatenation`, both networks take the label as extra
features of their input (Mirza & Osindero 2014, arXiv:1411.1784).

Dimensions: B batch, H height, W width, C features, K classes.
"""

from collections.abc import Callable
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.nn.norms import create_norm
from common_flax.nn.norms import Norm
from gan_flax.models.discriminators import Apply

CONDITIONINGS = ('none', 'projection', 'concatenation')


def with_labels(x: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
  """Appends the one-hot label as K features, the same at all positions.

  Args:
    x: [B, H, W, C] or [B, C].
    labels: int32 [B], from 0 to K - 1.
    num_classes: K.

  Returns:
    [B, H, W, C + K] or [B, C + K].
  """
  one_hot = jax.nn.one_hot(labels, num_classes, dtype=x.dtype)
  return jnp.concatenate([x, _beside(one_hot, x)], axis=-1)


def conditional_norm(
  labels: jax.Array,
  num_classes: int,
  *,
  scale_init: Callable = nn.initializers.ones,
  dtype: jnp.dtype,
  param_dtype: jnp.dtype,
  **options: Any,
) -> Norm:
  """Batch norm with a scale and a shift for each class.

  Args:
    labels: int32 [B], from 0 to K - 1.
    num_classes: K.
    scale_init: initialiser of the scales [K, C].
    dtype: type of the computation.
    param_dtype: type of the parameters.
    **options: see `norms.create_norm`.
  """
  types = dict(dtype=dtype, param_dtype=param_dtype)
  norm = create_norm(
    'batch', use_scale=False, use_bias=False, **options, **types
  )
  one_hot = jax.nn.one_hot(labels, num_classes, dtype=dtype)

  def create(name: str) -> Callable[[jax.Array], jax.Array]:
    def normalise(x):
      dense = functools.partial(nn.Dense, x.shape[-1], use_bias=False, **types)
      scale = dense(kernel_init=scale_init, name=f'{name}_scale')(one_hot)
      shift = dense(kernel_init=nn.initializers.zeros, name=f'{name}_shift')(
        one_hot
      )
      return norm(name=name)(x) * _beside(scale, x) + _beside(shift, x)

    return normalise

  return create


def generating(
  module: nn.Module,
  labels: jax.Array | None,
  *,
  kind: str = 'batch',
  train: bool,
  **options: Any,
) -> Norm:
  """The norm of a generator, class-conditional under `projection`.

  Args:
    module: has the attributes `conditioning`, one of CONDITIONINGS,
      `num_classes`, `norm_momentum`, `axis_name`, `dtype` and `param_dtype`.
    labels: int32 [B], the classes to draw; None if unconditional.
    kind: see `norms.create_norm`; `projection` always uses 'batch'.
    train: see `norms.create_norm`.
    **options: see `norms.create_norm`.
  """
  options |= dict(
    train=train,
    momentum=module.norm_momentum,
    axis_name=module.axis_name,
    dtype=module.dtype,
    param_dtype=module.param_dtype,
  )
  if module.conditioning == 'projection':
    return conditional_norm(labels, module.num_classes, **options)
  return create_norm(kind, **options)


def fit(
  module: nn.Module,
  apply: Apply,
  features: jax.Array,
  labels: jax.Array | None,
  **options: Any,
) -> jax.Array | float:
  """The term by which `projection` changes a discriminator's logit.

  Args:
    module: has the attributes `conditioning` and `num_classes`.
    apply: applies a layer, see `discriminators.discriminating`.
    features: [B, C].
    labels: int32 [B], the claimed classes of the examples.
    **options: of `nn.Dense`, which embeds the labels.

  Returns:
    [B], the inner product of the features with the embedded label; 0 unless
    the conditioning is `projection`.
  """
  if module.conditioning != 'projection':
    return 0.0
  one_hot = jax.nn.one_hot(labels, module.num_classes, dtype=features.dtype)
  layer = nn.Dense(features.shape[-1], use_bias=False, name='class', **options)
  return jnp.sum(apply(layer, one_hot) * features, axis=-1)


def _beside(features: jax.Array, x: jax.Array) -> jax.Array:
  """Repeats features [B, C'] at the positions of x [B, ..., C]."""
  places = x.shape[1:-1]
  batch = x.shape[0]  # a symbol in exported programs
  features = features.reshape(batch, *[1] * len(places), features.shape[-1])
  return jnp.broadcast_to(features, (batch, *places, features.shape[-1]))
