"""Priors that are learned: mixtures of normal distributions of the top latents.

The components of 'mixture' are parameters themselves. Those of 'vampprior' are
the posteriors of pseudo-inputs, which are parameters and look like images
(Tomczak & Welling 2018, arXiv:1705.07120). The top latents are all latents of
one layer, or the first group of a hierarchy; what is below keeps the prior that
the hierarchy gives it.

Dimensions: K components, T top latents, H height, W width, C channels, Z latent
size.
"""

import functools
import math
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from common_flax.likelihoods import soft_bound
from vae_flax.losses import log_normal

PRIORS = ('normal', 'mixture', 'vampprior')
_PSEUDO_LOGIT = -2.0  # mean of the first ones: most pixels of a digit are dark


class Components(NamedTuple):
  """A mixture of normal distributions with diagonal covariances.

  Attributes:
    log_weights: [K], logs of shares that sum to 1.
    mean: [K, T].
    log_var: [K, T].
  """

  log_weights: jax.Array
  mean: jax.Array
  log_var: jax.Array


class Mixture(nn.Module):
  """The prior 'mixture'.

  Attributes:
    num_components: K.
    size: T.
    max_log_var: bound on the absolute value of log-variances.
    param_dtype: type of the parameters and the result.
  """

  num_components: int
  size: int
  max_log_var: float
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self) -> Components:
    """The components, whose means are drawn from N(0, I) at first."""
    shape = self.num_components, self.size
    zeros, normal = nn.initializers.zeros_init(), nn.initializers.normal(1.0)
    types = self.param_dtype
    log_var = self.param('log_var', zeros, shape, types)
    return Components(
      nn.log_softmax(self.param('logits', zeros, shape[:1], types)),
      self.param('mean', normal, shape, types),
      soft_bound(log_var, self.max_log_var),
    )


class PseudoInputs(nn.Module):
  """What an encoder makes the components of 'vampprior' of.

  Attributes:
    num_components: K.
    image_shape: (H, W, C).
    param_dtype: type of the parameters and the result.
  """

  num_components: int
  image_shape: tuple[int, int, int]
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self) -> jax.Array:
    """Pseudo-inputs [K, H, W, C] from 0 to 1."""
    logits = self.param(
      'logits',
      nn.initializers.normal(1.0),
      (self.num_components, *self.image_shape),
      self.param_dtype,
    )
    return nn.sigmoid(logits + _PSEUDO_LOGIT)


def of_posteriors(mean: jax.Array, log_var: jax.Array) -> Components:
  """The mixture, in equal shares, of K posteriors [K, T]."""
  shares = jnp.full(len(mean), -math.log(len(mean)), mean.dtype)
  return Components(shares, mean, log_var)


def log_density(prior: Components, z: jax.Array) -> jax.Array:
  """The log density of the mixture in nats, [...], for z [..., T]."""
  # The expanded square of z - mean needs only matrix products. Their terms
  # cancel, so they need more bits than accelerators take unless told to.
  product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
  inverse = jnp.exp(-prior.log_var)
  of_means = log_normal(0.0, prior.mean, prior.log_var).sum(axis=-1)
  logs = product(z, (prior.mean * inverse).T) - 0.5 * product(z**2, inverse.T)
  constants = of_means + prior.log_weights
  constants = constants.reshape((1,) * (z.ndim - 1) + constants.shape)
  return jax.nn.logsumexp(logs + constants, axis=-1)


def gain(prior: Components, z: jax.Array) -> jax.Array:
  """By how much the prior finds latents more likely than N(0, I) does.

  Args:
    prior: of the top latents.
    z: [..., Z], the top latents first.

  Returns:
    log Pr(z) - log N(z; 0, I), [...] in nats.
  """
  top = z[..., : prior.mean.shape[-1]]
  return log_density(prior, top) - log_normal(top, 0.0, 0.0).sum(axis=-1)


def moments(
  prior: Components | None, size: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
  """Mean and standard deviation of each latent under the prior, [Z] each.

  Args:
    prior: of the top latents; None if all have N(0, I).
    size: Z.
    dtype: of the result where there is no prior.
  """
  mean, deviation = jnp.zeros(size, dtype), jnp.ones(size, dtype)
  if prior is None:
    return mean, deviation
  shares = jnp.exp(prior.log_weights)[:, None]
  top = prior.mean.shape[-1]
  centre = jnp.sum(shares * prior.mean, axis=0)
  squares = jnp.exp(prior.log_var) + (prior.mean - centre[None]) ** 2
  spread = jnp.sqrt(jnp.sum(shares * squares, axis=0))
  return mean.at[:top].set(centre), deviation.at[:top].set(spread)


def draw(prior: Components, key: jax.Array, noise: jax.Array) -> jax.Array:
  """Draws latents from the prior; consumes the key.

  Args:
    prior: of the top latents.
    key: of the components.
    noise: [B, Z] from N(0, I), the top latents first.

  Returns:
    [B, Z].
  """
  size = prior.mean.shape[-1]
  drawn = jax.random.categorical(key, prior.log_weights, shape=noise.shape[:1])
  deviation = jnp.exp(0.5 * prior.log_var[drawn])
  top = prior.mean[drawn] + deviation * noise[:, :size]
  return jnp.concatenate([top, noise[:, size:]], axis=1)
