"""Residual networks for small images, from SNGAN.

Miyato et al. (2018), arXiv:1802.05957, table 3 (after Gulrajani et al. 2017,
arXiv:1704.00028). The generator doubles the image side in each residual block.
The discriminator halves it in the first blocks and keeps it in the last two.
Only the generator has batch norm; the discriminator is designed for spectral
normalisation and needs no norm of its features.

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
from gan_flax.models.conditioning import fit
from gan_flax.models.conditioning import generating
from gan_flax.models.conditioning import with_labels
from gan_flax.models.discriminators import discriminating
from gan_flax.models.discriminators import with_minibatch_deviation

_in_block = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')
_elsewhere = nn.initializers.glorot_uniform()


def doubled(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, 2H, 2W, C], repeating each pixel four times."""
  return x.repeat(2, axis=1).repeat(2, axis=2)


def halved(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, H/2, W/2, C], averaging squares of four pixels."""
  batch_size, height, width, channels = x.shape
  squares = x.reshape(batch_size, height // 2, 2, width // 2, 2, channels)
  return squares.mean(axis=(2, 4))


class Generator(nn.Module):
  """z [B, Z] -> images [B, H, W, C] in [-1, 1].

  Attributes:
    image_shape: (H, W, C).
    grid_size: see `dcgan.Generator`.
    base_features: half the number of features in each layer; 128 in the paper.
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
  base_features: int = 128
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
    """Draws images; takes the arguments of `dcgan.Generator`."""
    *size, channels = self.image_shape
    start, count = doublings(grid_size(size, self.grid_size))
    features = 2 * self.base_features
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    conv = functools.partial(Conv, stride=1, **types)
    norm = generating(self, labels, kind=self.norm, train=train)
    if self.conditioning == 'concatenation':
      latents = with_labels(latents, labels, self.num_classes)
    project = nn.Dense(
      start[0] * start[1] * features,
      kernel_init=_elsewhere,
      name='project',
      **types,
    )
    x = project(latents).reshape(-1, *start, features)
    for i in range(count):
      block = functools.partial(conv, features, kernel_init=_in_block)
      # A norm after a layer removes its bias.
      y = doubled(nn.relu(norm(name=f'norm_{i}_a')(x)))
      y = block(
        kernel_size=3, use_bias=self.norm == 'none', name=f'conv_{i}_a'
      )(y)
      y = nn.relu(norm(name=f'norm_{i}_b')(y))
      y = block(kernel_size=3, use_bias=True, name=f'conv_{i}_b')(y)
      shortcut = conv(
        features,
        kernel_size=1,
        use_bias=True,
        kernel_init=_elsewhere,
        name=f'shortcut_{i}',
      )
      # A 1x1 convolution and the doubling commute.
      x = y + doubled(shortcut(x))
    x = nn.relu(norm(name='norm')(x))
    x = conv(
      channels,
      kernel_size=3,
      use_bias=True,
      kernel_init=_elsewhere,
      name='image',
    )(x)
    return nn.tanh(centre_crop(x, size)).astype(self.param_dtype)


class Discriminator(nn.Module):
  """Images [B, H, W, C] in [-1, 1] -> logits [B] of being real.

  Attributes:
    image_shape: (H, W, C).
    grid_size: see `dcgan.Discriminator`.
    base_features: number of features in each layer; 128 in the paper.
    norm: norm of the features, see `common_flax.nn.norms`; 'none' in the paper.
    has_spectral_norm: see `gan_flax.models.discriminators`; True in the paper.
    has_minibatch_deviation: whether the minibatch deviation feeds the sum.
    conditioning: how labels are used, see `gan_flax.models.conditioning`.
    num_classes: number of classes; None if unconditional.
    norm_momentum: share of the running averages kept at each update.
    axis_name: mapped axis over which a batch is split, as in `nn.BatchNorm`.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  image_shape: tuple[int, int, int]
  base_features: int = 128
  grid_size: Size | None = None
  norm: str = 'none'
  has_spectral_norm: bool = True
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
    """Classifies images; takes the arguments of `dcgan.Generator`."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    conv = functools.partial(
      Conv, self.base_features, stride=1, use_bias=True, **types
    )
    apply, norm = discriminating(self, train=train)

    def residual(x, name, *, is_first=False, is_halving=False):
      block = functools.partial(conv, kernel_size=3, kernel_init=_in_block)
      # The first block takes pixels, without norm or ReLU before it.
      y = x if is_first else nn.relu(norm(name=f'norm_{name}_a')(x))
      y = apply(block(name=f'conv_{name}_a'), y)
      y = nn.relu(norm(name=f'norm_{name}_b')(y))
      y = apply(block(name=f'conv_{name}_b'), y)
      if not is_halving:
        return x + y
      shortcut = conv(
        kernel_size=1, kernel_init=_elsewhere, name=f'shortcut_{name}'
      )
      # A 1x1 convolution and the mean commute.
      return halved(y) + apply(shortcut, halved(x))

    size = grid_size(self.image_shape[:2], self.grid_size)
    start, count = doublings(size)
    # Down to a map of about the paper's 8x8.
    num_halvings = max(1, count if min(start) > 5 else count - 1)
    x = centre_pad(images, size, -1)
    if self.conditioning == 'concatenation':
      x = with_labels(x, labels, self.num_classes)
    for i in range(num_halvings):
      x = residual(x, i, is_first=i == 0, is_halving=True)
    for i in range(num_halvings, num_halvings + 2):
      x = residual(x, i)
    x = nn.relu(x)
    if self.has_minibatch_deviation:
      x = with_minibatch_deviation(x)
    x = x.sum(axis=(1, 2))  # [B, features]
    logit = nn.Dense(1, kernel_init=_elsewhere, name='logit', **types)
    logits = apply(logit, x)[:, 0]
    logits += fit(self, apply, x, labels, kernel_init=_elsewhere, **types)
    return logits.astype(self.param_dtype)
