"""DCGAN (Radford et al. 2015, arXiv:1511.06434; UDL 15.1.3).

The generator projects z to a small map with many features and doubles its
sides with stride-2 transposed convolutions. The discriminator halves the image
with stride-2 convolutions down to the same map and computes one logit. The
recipe for stable training: no pooling, batch norm in all layers except the
generator's last and the discriminator's first, ReLU in the generator with tanh
at the end, LeakyReLU in the discriminator, and weights from N(0, 0.02).

Sampling does not use the running averages of the generator's batch norm; it
estimates the statistics anew.

Dimensions: B batch, H height, W width, C channels, Z latent size.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.images import centre_crop
from common_flax.images import centre_pad
from common_flax.images import doublings
from common_flax.images import grid_size
from common_flax.images import Size
from common_flax.nn.layers import Conv
from common_flax.nn.layers import TransposedConv
from gan_flax.models.conditioning import fit
from gan_flax.models.conditioning import generating
from gan_flax.models.conditioning import with_labels
from gan_flax.models.discriminators import discriminating
from gan_flax.models.discriminators import with_minibatch_deviation

_weight_init = nn.initializers.normal(0.02)


def _scale_init(key, shape, dtype=jnp.float32):
  return 1 + _weight_init(key, shape, dtype)


class Generator(nn.Module):
  """z [B, Z] -> images [B, H, W, C] in [-1, 1].

  Attributes:
    image_shape: (H, W, C).
    grid_size: size of the images that the layers make, of which the centre is
      returned; None for the smallest, see `common_flax.images.grid_size`.
    base_features: number of features before the last layer, doubled in each
      layer before it. Radford et al. use 128, most later implementations 64.
    kernel_size: side of the kernels, 4 or 5 (the paper's).
    norm: norm of the features, see `common_flax.nn.norms`; 'batch' in the
      paper.
    conditioning: how labels are used, see `gan_flax.models.conditioning`.
    num_classes: number of classes; None if unconditional.
    norm_momentum: share of the running averages kept at each update.
    axis_name: mapped axis over which a batch is split, as in `nn.BatchNorm`.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 64
  kernel_size: int = 4
  grid_size: Size | None = None
  norm: str = 'batch'
  conditioning: str = 'none'
  num_classes: int | None = None
  norm_momentum: float = 0.9
  axis_name: str | None = None
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    latents: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Draws images from latents.

    Args:
      latents: [B, Z].
      labels: int32 [B], the classes to draw; None if unconditional.
      train: whether to normalise with the statistics of the batch instead of
        the running averages.
    """
    *size, channels = self.image_shape
    start, count = doublings(grid_size(size, self.grid_size))
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
      scale_init=_scale_init,
    )
    if self.conditioning == 'concatenation':
      latents = with_labels(latents, labels, self.num_classes)
    features = self.base_features * 2 ** (count - 1)
    x = nn.Dense(
      start[0] * start[1] * features,
      use_bias=self.norm == 'none',
      kernel_init=_weight_init,
      name='project',
      **types,
    )(latents)
    x = x.reshape(-1, *start, features)
    x = nn.relu(norm(name='norm_0')(x))
    for i in range(1, count):
      x = conv(features // 2**i, name=f'conv_{i}')(x)
      x = nn.relu(norm(name=f'norm_{i}')(x))
    x = conv(channels, name=f'conv_{count}')(x)
    x = centre_crop(x, size)  # [B, H, W, C]
    return nn.tanh(x).astype(self.param_dtype)


class Discriminator(nn.Module):
  """Images [B, H, W, C] in [-1, 1] -> logits [B] of being real.

  Attributes:
    image_shape: (H, W, C).
    grid_size: size to which images are padded with -1; None for the smallest,
      see `common_flax.images.grid_size`.
    base_features: number of features after the first layer, doubled in each
      layer after it.
    kernel_size: side of the kernels, 4 or 5 (the paper's).
    norm: norm of the features, see `common_flax.nn.norms`; 'batch' in the
      paper. The first layer has no norm.
    has_spectral_norm: see `gan_flax.models.discriminators`.
    has_minibatch_deviation: whether the minibatch deviation feeds the logit.
    conditioning: how labels are used, see `gan_flax.models.conditioning`.
    num_classes: number of classes; None if unconditional.
    norm_momentum: share of the running averages kept at each update.
    axis_name: mapped axis over which a batch is split, as in `nn.BatchNorm`.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 64
  kernel_size: int = 4
  grid_size: Size | None = None
  norm: str = 'batch'
  has_spectral_norm: bool = False
  has_minibatch_deviation: bool = False
  conditioning: str = 'none'
  num_classes: int | None = None
  norm_momentum: float = 0.9
  axis_name: str | None = None
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    labels: jax.Array | None = None,
    *,
    train: bool,
  ) -> jax.Array:
    """Classifies images; takes the arguments of the generator."""
    size = grid_size(self.image_shape[:2], self.grid_size)
    _, count = doublings(size)
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    # A norm removes a bias and adds its own shift.
    conv = functools.partial(
      Conv,
      kernel_size=self.kernel_size,
      kernel_init=_weight_init,
      use_bias=self.norm == 'none',
      **types,
    )
    apply, norm = discriminating(self, train=train, scale_init=_scale_init)
    images = centre_pad(images, size, -1)
    if self.conditioning == 'concatenation':
      images = with_labels(images, labels, self.num_classes)
    x = apply(conv(self.base_features, name='conv_0'), images)
    x = nn.leaky_relu(x, 0.2)
    for i in range(1, count):
      x = apply(conv(self.base_features * 2**i, name=f'conv_{i}'), x)
      x = nn.leaky_relu(norm(name=f'norm_{i}')(x), 0.2)
    if self.has_minibatch_deviation:
      x = with_minibatch_deviation(x)
    x = x.reshape(x.shape[0], -1)  # [B, h * w * features]
    logit = nn.Dense(
      1, use_bias=False, kernel_init=_weight_init, name='logit', **types
    )
    logits = apply(logit, x)[:, 0]
    logits += fit(self, apply, x, labels, kernel_init=_weight_init, **types)
    return logits.astype(self.param_dtype)
