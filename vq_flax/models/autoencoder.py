"""Encoder and decoder of convolutions and residual blocks.

They are those of van den Oord et al. (2017, arXiv:1711.00937, section 4.1),
with fewer features where the grid is finer. There is no normalisation, so an
image's codes depend on that image alone.

Dimensions: B batch, H height, W width, C channels, P outputs per value, S and T
sides of the grid of cells, D features of a cell.
"""

from collections.abc import Callable

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.images import centre_crop
from common_flax.images import centre_pad
from common_flax.images import sides
from common_flax.images import Size
from common_flax.nn.layers import Conv
from common_flax.nn.layers import TransposedConv

Activation = Callable[[jax.Array], jax.Array]
_KERNEL_SIZE = 4
_kernel_init = nn.initializers.he_normal()


def grid_of(image_size: Size, num_halvings: int) -> tuple[int, int]:
  """The sides (S, T) of the grid of cells of an image."""
  height, width = sides(image_size)
  return -(-height // 2**num_halvings), -(-width // 2**num_halvings)


class ResidualBlock(nn.Module):
  """Adds a 3x3 and a 1x1 convolution, each after an activation, to x.

  Attributes:
    activation: activation of the hidden layers.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  activation: Activation
  dtype: jnp.dtype
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, S, T, F] -> [B, S, T, F]."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    features = x.shape[-1]
    y = nn.Conv(
      features, (3, 3), kernel_init=_kernel_init, name='mix', **types
    )(self.activation(x))
    return x + nn.Dense(features, name='expand', **types)(self.activation(y))


class Encoder(nn.Module):
  """x [B, H, W, C] -> cells [B, S, T, D].

  Attributes:
    num_features: D.
    num_halvings: strided convolutions; a cell has 2**num_halvings pixels a
      side.
    num_blocks: residual blocks behind them.
    base_features: features of the cells inside; half as many on a grid twice as
      fine, and so on.
    activation: activation of the hidden layers.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  num_features: int
  num_halvings: int
  num_blocks: int
  base_features: int
  activation: Activation
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Encodes x, padded with 0 to whole cells."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    grid = grid_of(x.shape[1:3], self.num_halvings)
    x = centre_pad(x, tuple(side * 2**self.num_halvings for side in grid), 0)
    for i in range(self.num_halvings):
      x = Conv(
        _features(self.base_features, self.num_halvings - 1 - i),
        kernel_size=_KERNEL_SIZE,
        kernel_init=_kernel_init,
        use_bias=True,
        name=f'conv_{i}',
        **types,
      )(x if i == 0 else self.activation(x))
    for i in range(self.num_blocks):
      x = ResidualBlock(self.activation, name=f'block_{i}', **types)(x)
    x = self.activation(x)
    x = nn.Dense(self.num_features, name='cells', **types)(x)
    return x.astype(self.param_dtype)


class Decoder(nn.Module):
  """Cells [B, S, T, D] -> the likelihood's parameters [B, H, W, C, P].

  Attributes:
    image_shape: (H, W, C), the centre of what the layers make.
    num_outputs: P.
    num_halvings: transposed convolutions.
    num_blocks: residual blocks before them.
    base_features: as those of `Encoder`.
    activation: activation of the hidden layers.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  image_shape: tuple[int, int, int]
  num_outputs: int
  num_halvings: int
  num_blocks: int
  base_features: int
  activation: Activation
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, cells: jax.Array) -> jax.Array:
    """Decodes cells."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    *size, channels = self.image_shape
    x = nn.Conv(
      self.base_features,
      (3, 3),
      kernel_init=_kernel_init,
      name='cells',
      **types,
    )(cells)
    for i in range(self.num_blocks):
      x = ResidualBlock(self.activation, name=f'block_{i}', **types)(x)
    for i in range(self.num_halvings):
      is_last = i == self.num_halvings - 1
      features = (
        channels * self.num_outputs
        if is_last
        else _features(self.base_features, i + 1)
      )
      x = TransposedConv(
        features,
        kernel_size=_KERNEL_SIZE,
        kernel_init=_kernel_init,
        use_bias=True,
        name=f'conv_{i}',
        **types,
      )(self.activation(x))
    outputs = centre_crop(x, size).astype(self.param_dtype)
    return outputs.reshape(-1, *self.image_shape, self.num_outputs)


def _features(base: int, num_doublings: int) -> int:
  """Features on a grid that is finer by a number of doublings."""
  return max(base // 2**num_doublings, 1)
