"""DCGAN (Radford et al. 2015, arXiv:1511.06434; UDL 15.1.3).

The generator projects z to a small square of many features and doubles it with
stride-2 transposed convolutions; the discriminator halves the image with
stride-2 convolutions down to the same square and takes one logit from it. What
makes it train: no pooling, batch norm everywhere but the generator's last and
the discriminator's first layer, ReLU in the generator with tanh at its end,
LeakyReLU in the discriminator, weights from N(0, 0.02).

Batch norm keeps running averages, which the discriminator's checkpoints carry;
what samples from the generator measures its statistics afresh.

Dimensions: B batch, S image side, C channels, Z latent size.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.images import doublings
from common_flax.nn.labels import fit
from common_flax.nn.labels import generating
from common_flax.nn.labels import with_labels
from common_flax.nn.layers import Conv
from common_flax.nn.layers import TransposedConv
from common_flax.nn.minibatch import with_minibatch_deviation
from common_flax.nn.norms import discriminating

_weight_init = nn.initializers.normal(0.02)


def _scale_init(key, shape, dtype=jnp.float32):
  return 1 + _weight_init(key, shape, dtype)


class Generator(nn.Module):
  """z [B, Z] -> images [B, S, S, C] in [-1, 1].

  Attributes:
    image_shape: (S, S, C), S = 4 * 2**k or 7 * 2**k.
    base_features: features before the last layer; they double as the image
      halves. Radford et al. take 128, most later implementations 64.
    kernel_size: side of the kernels, 4 or 5 (the paper's).
    norm: of the features, one of `common_flax.nn.norms`; the paper's is
      'batch'.
    conditioning: what is done with labels, see `common_flax.nn.labels`.
    num_classes: of the labels, if they are used.
    norm_momentum: share of the old running averages kept at each update.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 64
  kernel_size: int = 4
  norm: str = 'batch'
  conditioning: str = 'none'
  num_classes: int | None = None
  norm_momentum: float = 0.9
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
    axis_name: str | None = None,
  ) -> jax.Array:
    """Draws images from latents.

    Args:
      latents: [B, Z].
      labels: int32 [B], the classes to draw, if it is conditional.
      train: normalise with the batch's statistics instead of the averages.
      axis_name: mapped axis over which the batch's statistics are taken.
    """
    size, _, channels = self.image_shape
    start, count = doublings(size)
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    conv = functools.partial(
      TransposedConv,
      kernel_size=self.kernel_size,
      kernel_init=_weight_init,
      use_bias=self.norm == 'none',
      **types,
    )
    norm = generating(
      self,
      labels,
      kind=self.norm,
      train=train,
      axis_name=axis_name,
      scale_init=_scale_init,
    )
    if self.conditioning == 'concatenation':
      latents = with_labels(latents, labels, self.num_classes)
    features = self.base_features * 2 ** (count - 1)
    x = nn.Dense(
      start * start * features,
      use_bias=self.norm == 'none',
      kernel_init=_weight_init,
      name='project',
      **types,
    )(latents)
    x = x.reshape(-1, start, start, features)
    x = nn.relu(norm(name='norm_0')(x))
    for i in range(1, count):
      x = conv(features // 2**i, name=f'conv_{i}')(x)
      x = nn.relu(norm(name=f'norm_{i}')(x))
    x = conv(channels, name=f'conv_{count}')(x)  # [B, S, S, C]
    return nn.tanh(x).astype(self.param_dtype)


class Discriminator(nn.Module):
  """Images [B, S, S, C] in [-1, 1] -> logits [B] of the probability of real.

  Attributes:
    image_shape: (S, S, C), S = 4 * 2**k or 7 * 2**k.
    base_features: features after the first layer; they double as the image
      halves.
    kernel_size: side of the kernels, 4 or 5 (the paper's).
    norm: of the features, one of `common_flax.nn.norms`; the paper's is
      'batch'. The first layer has none.
    has_spectral_norm: see `common_flax.nn.norms.discriminating`.
    has_minibatch_deviation: see `common_flax.nn.minibatch`; before the logit.
    conditioning: what is done with labels, see `common_flax.nn.labels`.
    num_classes: of the labels, if they are used.
    norm_momentum: share of the old running averages kept at each update.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 64
  kernel_size: int = 4
  norm: str = 'batch'
  has_spectral_norm: bool = False
  has_minibatch_deviation: bool = False
  conditioning: str = 'none'
  num_classes: int | None = None
  norm_momentum: float = 0.9
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
    axis_name: str | None = None,
  ) -> jax.Array:
    """Classifies images; the arguments are those of the generator."""
    _, count = doublings(self.image_shape[0])
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    # A norm takes away, and brings again, what a bias would add.
    conv = functools.partial(
      Conv,
      kernel_size=self.kernel_size,
      kernel_init=_weight_init,
      use_bias=self.norm == 'none',
      **types,
    )
    apply, norm = discriminating(
      self, train=train, axis_name=axis_name, scale_init=_scale_init
    )
    if self.conditioning == 'concatenation':
      images = with_labels(images, labels, self.num_classes)
    x = apply(conv(self.base_features, name='conv_0'), images)
    x = nn.leaky_relu(x, 0.2)
    for i in range(1, count):
      x = apply(conv(self.base_features * 2**i, name=f'conv_{i}'), x)
      x = nn.leaky_relu(norm(name=f'norm_{i}')(x), 0.2)
    if self.has_minibatch_deviation:
      x = with_minibatch_deviation(x)
    x = x.reshape(x.shape[0], -1)  # [B, start * start * features]
    logit = nn.Dense(
      1, use_bias=False, kernel_init=_weight_init, name='logit', **types
    )
    logits = apply(logit, x)[:, 0]
    logits += fit(self, apply, x, labels, kernel_init=_weight_init, **types)
    return logits.astype(self.param_dtype)
