"""Encoding, drawing and decoding as pure functions of a VAE's parameters.

Dimensions: B batch, K importance samples, H height, W width, C channels, P
outputs per value, Z latent size.
"""

import jax
import jax.numpy as jnp

from common_flax.cpu.threefry import unrolled
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from vae_flax.losses import log_normal
from vae_flax.state import Params
from vae_flax.vae import VAE


def encode(
  vae: VAE, params: Params, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The approximate posterior q(z|x, θ) = N(mean, exp(log_var)) (UDL 17.20).

  Args:
    vae: the static part.
    params: parameters of both networks.
    x: [B, H, W, C] from `vae.observe`.

  Returns:
    Mean and log-variance, [B, Z] each.
  """
  return vae.encoder.apply({'params': params['encoder']}, x)


def decode(vae: VAE, params: Params, z: jax.Array) -> jax.Array:
  """Decodes latents to the parameters of the likelihood (UDL 17.6).

  Args:
    vae: the static part.
    params: parameters of both networks.
    z: [..., Z].

  Returns:
    [..., H, W, C, P]: logits, or means and log-scales; see
    `vae_flax.likelihoods`.
  """
  outputs = vae.decoder.apply(
    {'params': params['decoder']}, z.reshape(-1, z.shape[-1])
  )
  return outputs.reshape(*z.shape[:-1], *outputs.shape[1:])


def reparameterise(
  key: jax.Array,
  mean: jax.Array,
  log_var: jax.Array,
  num_samples: int = 1,
  axis: BatchAxis = WHOLE_BATCH,
) -> jax.Array:
  """Draws z = mean + deviation * noise with noise from N(0, I) (UDL 17.25).

  The draw is differentiable with respect to `mean` and `log_var`.

  Args:
    key: consumed.
    mean: [B, Z].
    log_var: [B, Z].
    num_samples: K, draws per row.
    axis: splits the batch over devices.

  Returns:
    [B, K, Z].
  """
  batch, latent_size = mean.shape
  noise = axis.draw(
    lambda num: jax.random.normal(
      unrolled(key), (num, num_samples, latent_size), mean.dtype
    ),
    batch,
  )
  return mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * noise


def reconstruction(
  vae: VAE, params: Params, x: jax.Array, z: jax.Array
) -> jax.Array:
  """Log Pr(x|z, φ) in nats, [B, K], for x [B, H, W, C] and z [B, K, Z]."""
  return vae.likelihood.log_prob(decode(vae, params, z), x[:, None])


def log_weights(
  vae: VAE,
  params: Params,
  x: jax.Array,
  z: jax.Array,
  mean: jax.Array,
  log_var: jax.Array,
) -> jax.Array:
  """The log importance weights log Pr(x, z) - log q(z|x) (UDL 17.28).

  Args:
    vae: the static part.
    params: parameters of both networks.
    x: [B, H, W, C].
    z: [B, K, Z], drawn from q.
    mean: [B, Z], the mean of q.
    log_var: [B, Z], the log-variance of q.

  Returns:
    [B, K] in nats.
  """
  log_prior = log_normal(z, 0.0, 0.0)
  log_posterior = log_normal(z, mean[:, None], log_var[:, None])
  divergence = jnp.sum(log_posterior - log_prior, axis=-1)
  return reconstruction(vae, params, x, z) - divergence
