"""Terms of the evidence lower bound, as pure functions (UDL 17.4 to 17.7).

As in the book, φ are the parameters of the decoder and θ those of the encoder.
All terms are in nats and per example; a train step sums over latents and
averages over the batch.

Dimensions: B batch, K importance samples, Z latent size.
"""

import math

import jax
import jax.numpy as jnp

_LOG_TWO_PI = math.log(2 * math.pi)


def log_normal(
  x: jax.Array, mean: jax.Array | float, log_var: jax.Array | float
) -> jax.Array:
  """Elementwise log N(x; mean, exp(log_var)) in nats."""
  squares = (x - mean) ** 2 * jnp.exp(-log_var)
  return -0.5 * (squares + log_var + _LOG_TWO_PI)


def gaussian_kl(mean: jax.Array, log_var: jax.Array) -> jax.Array:
  """$KL[N(μ, σ²) || N(0, 1)]$ for each latent (UDL 17.24).

  Args:
    mean: [..., Z].
    log_var: [..., Z].

  Returns:
    [..., Z] in nats; the sum over Z is the divergence of the diagonal Gaussian.
  """
  return 0.5 * (jnp.exp(log_var) + mean**2 - 1 - log_var)


def monte_carlo_kl(
  z: jax.Array, mean: jax.Array, log_var: jax.Array
) -> jax.Array:
  """Estimates the same divergence from draws of q, for each latent.

  Args:
    z: [B, K, Z] drawn from N(mean, exp(log_var)).
    mean: [B, 1, Z] or [B, K, Z].
    log_var: of the same shape.

  Returns:
    [B, Z] in nats: the mean of log q(z|x) - log Pr(z) over the draws.
  """
  log_posterior = log_normal(z, mean, log_var)
  return jnp.mean(log_posterior - log_normal(z, 0.0, 0.0), axis=1)


def total_correlation(
  z: jax.Array, mean: jax.Array, log_var: jax.Array
) -> jax.Array:
  """Estimates $KL[q(z) || Π_j q(z_j)]$, the dependence between latents.

  q(z), the aggregated posterior, is taken to be the mixture of the posteriors
  of a batch. Its gradient is that of minibatch-weighted sampling (Chen et al.
  2018, arXiv:1802.04942), whose value differs by the constant (Z - 1) log N of
  a data set of N images. As z is drawn from one of the B
  posteriors, the value is too high, and at most (Z - 1) log B.

  Args:
    z: [B', Z], each drawn from the posterior of one image of the batch.
    mean: [B, Z], of the posteriors of all images of the batch.
    log_var: [B, Z].

  Returns:
    [] in nats.
  """
  logs = log_normal(z[:, None], mean[None], log_var[None])  # [B', B, Z]
  log_size = math.log(len(mean))
  joint = jax.nn.logsumexp(jnp.sum(logs, axis=2), axis=1) - log_size
  marginals = jax.nn.logsumexp(logs, axis=1) - log_size  # [B', Z]
  return jnp.mean(joint - jnp.sum(marginals, axis=1))


def importance_bound(log_weights: jax.Array) -> jax.Array:
  """Log of the mean importance weight (Burda et al. 2015, arXiv:1509.00519).

  Its expectation is at most log Pr(x) and rises towards it with K (UDL 17.28).
  For K = 1 it is the ELBO.

  Args:
    log_weights: [B, K], log Pr(x, z) - log q(z|x) in nats, for z from q.

  Returns:
    [B] in nats.
  """
  return jax.nn.logsumexp(log_weights, axis=1) - math.log(log_weights.shape[1])


@jax.custom_vjp
def scale_gradient(x: jax.Array, scale: jax.Array) -> jax.Array:
  """Returns x; backward, multiplies the gradient of x by `scale`.

  Args:
    x: [..., Z].
    scale: [...]; its gradient is zero.
  """
  del scale
  return x


scale_gradient.defvjp(
  lambda x, scale: (x, scale),
  lambda scale, gradient: (gradient * scale[..., None], jnp.zeros_like(scale)),
)


def with_free_bits(kl_per_latent: jax.Array, free_nats: float) -> jax.Array:
  """Sums the divergence over latents, each at least `free_nats` (free bits).

  A latent whose divergence, averaged over the batch, is below `free_nats` gains
  nothing by lowering it further. This is the λ-objective of Kingma et al.
  (2016), arXiv:1606.04934, equation 15.

  Args:
    kl_per_latent: [Z] means over the batch, in nats.
    free_nats: free nats per latent; 0 turns them off.

  Returns:
    [] in nats.
  """
  if not free_nats:  # no maximum with 0: Monte Carlo estimates may be negative
    return jnp.sum(kl_per_latent)
  return jnp.sum(jnp.maximum(kl_per_latent, free_nats))


def kl_weight(
  beta: float, warmup_steps: int, step: jax.Array
) -> jax.Array | float:
  """Weight of the divergence at a step.

  Args:
    beta: final weight; 1 gives the ELBO, other values a β-VAE (UDL 17.30).
    warmup_steps: steps over which the weight rises linearly from
      beta / warmup_steps to beta (Bowman et al. 2015, arXiv:1511.06349); 0 for
      no warm-up.
    step: int32 [], train steps completed.
  """
  if not warmup_steps:
    return beta
  return beta * jnp.minimum(1.0, (step + 1) / warmup_steps)
