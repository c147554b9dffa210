"""Encoder and decoder of dense layers (UDL 17.6).

With two hidden layers of 200 tanh units and 50 latents they form the one-layer
model of Burda et al. (2015), arXiv:1509.00519, section 5.

Dimensions: B batch, H height, W width, C channels, P outputs per value, Z
latent size.
"""

from collections.abc import Callable
import functools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.likelihoods import soft_bound

_kernel_init = nn.initializers.glorot_uniform()


class Encoder(nn.Module):
  """x [B, H, W, C] -> mean and log-variance [B, Z] of q(z|x, θ).

  Attributes:
    latent_size: Z.
    hidden_sizes: units per hidden layer, the first layer next to x.
    activation: activation of the hidden layers.
    max_log_var: bound on the absolute value of log-variances.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  latent_size: int
  hidden_sizes: tuple[int, ...]
  activation: Callable[[jax.Array], jax.Array]
  max_log_var: float
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Encodes x."""
    dense = functools.partial(
      nn.Dense,
      kernel_init=_kernel_init,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )
    hidden = x.reshape(x.shape[0], -1)  # [B, H * W * C]
    for i, size in enumerate(self.hidden_sizes):
      hidden = self.activation(dense(size, name=f'hidden_{i}')(hidden))
    mean = dense(self.latent_size, name='mean')(hidden)
    log_var = dense(self.latent_size, name='log_var')(hidden)
    mean, log_var = (y.astype(self.param_dtype) for y in (mean, log_var))
    return mean, soft_bound(log_var, self.max_log_var)


class Decoder(nn.Module):
  """z [B, Z] -> the likelihood's parameters [B, H, W, C, P].

  Attributes:
    image_shape: (H, W, C).
    num_outputs: P.
    hidden_sizes: units per hidden layer, the last layer next to x.
    activation: activation of the hidden layers.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  image_shape: tuple[int, int, int]
  num_outputs: int
  hidden_sizes: tuple[int, ...]
  activation: Callable[[jax.Array], jax.Array]
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array) -> jax.Array:
    """Decodes z."""
    dense = functools.partial(
      nn.Dense,
      kernel_init=_kernel_init,
      dtype=self.dtype,
      param_dtype=self.param_dtype,
    )
    hidden = z
    for i, size in enumerate(self.hidden_sizes):
      hidden = self.activation(dense(size, name=f'hidden_{i}')(hidden))
    size = math.prod(self.image_shape) * self.num_outputs
    outputs = dense(size, name='outputs')(hidden)
    outputs = outputs.astype(self.param_dtype)
    return outputs.reshape(-1, *self.image_shape, self.num_outputs)
