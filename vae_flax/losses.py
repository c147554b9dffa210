"""Terms of the evidence lower bound, as pure functions (UDL 17.4 to 17.7).

The book's letters: the decoder's parameters are φ, the encoder's θ. All terms
are in nats and per example; a train step sums over latents and takes the mean
over the batch.

Dimensions: B batch, K importance samples, Z latent size.
"""

import math

import jax
import jax.numpy as jnp

_LOG_TWO_PI = math.log(2 * math.pi)


def log_normal(
  x: jax.Array, mean: jax.Array | float, log_var: jax.Array | float
) -> jax.Array:
  """Log N(x; mean, exp(log_var)) of each number by itself, in nats."""
  squares = (x - mean) ** 2 * jnp.exp(-log_var)
  return -0.5 * (squares + log_var + _LOG_TWO_PI)


def gaussian_kl(mean: jax.Array, log_var: jax.Array) -> jax.Array:
  """KL[N(mean, exp(log_var)) || N(0, 1)], a latent at a time (UDL 17.24).

  Args:
    mean: [..., Z].
    log_var: [..., Z].

  Returns:
    [..., Z] in nats; their sum is the divergence of the diagonal Gaussian.
  """
  return 0.5 * (jnp.exp(log_var) + mean**2 - 1 - log_var)


def monte_carlo_kl(
  z: jax.Array, mean: jax.Array, log_var: jax.Array
) -> jax.Array:
  """The same divergence estimated from draws of q, a latent at a time.

  Args:
    z: [B, K, Z] drawn from N(mean, exp(log_var)).
    mean: [B, Z].
    log_var: [B, Z].

  Returns:
    [B, Z] in nats, the mean over the draws of log q(z|x) - log Pr(z).
  """
  log_posterior = log_normal(z, mean[:, None], log_var[:, None])
  return jnp.mean(log_posterior - log_normal(z, 0.0, 0.0), axis=1)


def importance_bound(log_weights: jax.Array) -> jax.Array:
  """Log of the mean importance weight (Burda et al. 2015, arXiv:1509.00519).

  In expectation it is at most log Pr(x), rises with K towards it (UDL 17.28),
  and is the ELBO for K = 1.

  Args:
    log_weights: [B, K] log Pr(x, z) - log q(z|x) in nats, z from q.

  Returns:
    [B] in nats.
  """
  return jax.nn.logsumexp(log_weights, axis=1) - math.log(log_weights.shape[1])


@jax.custom_vjp
def scale_gradient(x: jax.Array, scale: jax.Array) -> jax.Array:
  """X itself, whose gradient is multiplied by `scale` on its way back.

  Args:
    x: [..., Z].
    scale: [...], which gets no gradient.
  """
  del scale
  return x


scale_gradient.defvjp(
  lambda x, scale: (x, scale),
  lambda scale, gradient: (gradient * scale[..., None], jnp.zeros_like(scale)),
)


def with_free_bits(kl_per_latent: jax.Array, free_nats: float) -> jax.Array:
  """The divergence, of which each latent has some for free.

  What a latent tells beneath `free_nats`, on average over the batch, costs
  nothing, so that there is no reason to tell less: the λ-objective of Kingma et
  al. (2016), arXiv:1606.04934, equation 15.

  Args:
    kl_per_latent: [Z] means over the batch, in nats.
    free_nats: of each latent; 0 for none.

  Returns:
    [] in nats.
  """
  if not free_nats:  # estimates by draws may be below 0
    return jnp.sum(kl_per_latent)
  return jnp.sum(jnp.maximum(kl_per_latent, free_nats))


def kl_weight(
  beta: float, warmup_steps: int, step: jax.Array
) -> jax.Array | float:
  """The weight of the divergence at a step.

  Args:
    beta: its last value: 1 for the ELBO, others for the β-VAE (UDL 17.30).
    warmup_steps: steps in which it rises linearly from 1/warmup_steps of beta;
      0 for none (Bowman et al. 2015, arXiv:1511.06349).
    step: int32 [], train steps completed.
  """
  if not warmup_steps:
    return beta
  return beta * jnp.minimum(1.0, (step + 1) / warmup_steps)
