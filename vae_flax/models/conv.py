"""Encoder and decoder of stride-2 convolutions.

The encoder halves the image until its shorter side has 4 to 7 pixels, while it
doubles the features, and computes the posterior with a dense layer. The decoder
mirrors it.
There is no normalisation, so an image's loss depends on that image alone.

Dimensions: B batch, H height, W width, C channels, P outputs per value, Z
latent size.
"""

from collections.abc import Callable
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.images import centre_crop
from common_flax.images import centre_pad
from common_flax.images import doublings
from common_flax.images import grid_size
from common_flax.likelihoods import soft_bound
from common_flax.nn.layers import Conv
from common_flax.nn.layers import TransposedConv

_KERNEL_SIZE = 4
_kernel_init = nn.initializers.he_normal()


class Encoder(nn.Module):
  """x [B, H, W, C] -> mean and log-variance [B, Z] of q(z|x, θ).

  Attributes:
    latent_size: Z.
    base_features: number of features after the first layer.
    activation: activation of the hidden layers.
    max_log_var: bound on the absolute value of log-variances.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  latent_size: int
  base_features: int
  activation: Callable[[jax.Array], jax.Array]
  max_log_var: float
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Encodes x, padded with 0 to `common_flax.images.grid_size`."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    size = grid_size(x.shape[1:3])
    _, count = doublings(size)
    x = centre_pad(x, size, 0)
    for i in range(count):
      x = Conv(
        self.base_features * 2**i,
        kernel_size=_KERNEL_SIZE,
        kernel_init=_kernel_init,
        use_bias=True,
        name=f'conv_{i}',
        **types,
      )(x)
      x = self.activation(x)
    x = x.reshape(x.shape[0], -1)
    mean = nn.Dense(self.latent_size, name='mean', **types)(x)
    log_var = nn.Dense(self.latent_size, name='log_var', **types)(x)
    mean, log_var = (y.astype(self.param_dtype) for y in (mean, log_var))
    return mean, soft_bound(log_var, self.max_log_var)


class Decoder(nn.Module):
  """z [B, Z] -> the likelihood's parameters [B, H, W, C, P].

  Attributes:
    image_shape: (H, W, C), the centre of what the layers make.
    num_outputs: P.
    base_features: number of features before the last layer.
    activation: activation of the hidden layers.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  image_shape: tuple[int, int, int]
  num_outputs: int
  base_features: int
  activation: Callable[[jax.Array], jax.Array]
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    """Decodes z."""
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    *size, channels = self.image_shape
    start, count = doublings(grid_size(size))
    conv = functools.partial(
      TransposedConv,
      kernel_size=_KERNEL_SIZE,
      kernel_init=_kernel_init,
      use_bias=True,
      **types,
    )
    features = self.base_features * 2 ** (count - 1)
    x = nn.Dense(start[0] * start[1] * features, name='project', **types)(z)
    x = self.activation(x).reshape(-1, *start, features)
    for i in range(1, count):
      x = self.activation(conv(features // 2**i, name=f'conv_{i}')(x))
    outputs = conv(channels * self.num_outputs, name=f'conv_{count}')(x)
    outputs = centre_crop(outputs, size).astype(self.param_dtype)
    return outputs.reshape(-1, *self.image_shape, self.num_outputs)
