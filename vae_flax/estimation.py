"""Estimates of log Pr(x), and of the aggregated posterior's divergence.

log Pr(x) is estimated by importance sampling from the posterior (UDL 17.28;
Burda et al. 2015, arXiv:1509.00519), as the log of the mean of K weights. The
estimate is biased downwards, by about half the relative variance of that mean;
the effective sample size measures this variance. Another sign of the bias is
how much the estimate rises from K / 10 weights to K: where the weights have a
finite variance, the bias falls as 1 / K, and a ninth of that rise is left.

Draws come in chunks of fixed size, and each image has its own key, so an
image's estimate does not depend on the other images.

Dimensions: N images, S draws per chunk, H height, W width, C channels, Z latent
size, G groups of latents, see `inference.per_group`.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from common_flax.cpu import compiler
from common_flax.cpu.threefry import unrolled
from vae_flax import inference
from vae_flax.losses import gaussian_kl
from vae_flax.priors.learned import Components
from vae_flax.state import Params
from vae_flax.vae import VAE

CHUNK_IMAGES = 50
_CHUNK_DRAWS = 50
_LOG_TWO_PI = math.log(2 * math.pi)


class _Sums(struct.PyTreeNode):
  """Running sums over each image's weights, relative to the largest so far."""

  largest: jax.Array  # [N], log of the largest weight
  weights: jax.Array  # [N], sums of weights
  squares: jax.Array  # [N], sums of squared weights
  logs: jax.Array  # [N], sums of log weights, unscaled
  divergences: jax.Array  # [N, G], sums of KL[q(z|x) || Pr(z)]


class Estimates(NamedTuple):
  """Estimates for each image, float64 [N]."""

  log_prob: np.ndarray  # estimate of log Pr(x), nats
  log_prob_of_tenth: np.ndarray  # the same of the first K / 10 draws, nats
  standard_error: np.ndarray  # of log_prob, nats
  effective_samples: np.ndarray  # effective sample size, 1 to K
  elbo: np.ndarray  # nats
  kl: np.ndarray  # [N, G], divergence of the posterior, by group, nats


def _add_chunk(
  vae: VAE,
  params: Params,
  sums: _Sums,
  x: jax.Array,
  found: inference.Evidence,
  labels: jax.Array | None,
  components: Components | None,
  keys: jax.Array,
  chunk: jax.Array,
  num_samples: jax.Array,
) -> _Sums:
  """Adds the weights of the S draws of a chunk, up to num_samples in all."""
  noise = jax.vmap(
    lambda key: jax.random.normal(
      unrolled(jax.random.fold_in(key, chunk)),
      (_CHUNK_DRAWS, vae.latent_size),
      vae.dtype,
    )
  )(keys)
  inferred = inference.infer(vae, params, found, noise, labels, components)
  logs = inference.log_weights_of(vae, x, inferred)  # [N, S]
  number = chunk * _CHUNK_DRAWS + jnp.arange(_CHUNK_DRAWS)
  counts = (number < num_samples)[None]
  largest = jnp.maximum(
    sums.largest, jnp.max(jnp.where(counts, logs, -jnp.inf), axis=1)
  )
  shrink = jnp.exp(sums.largest - largest)
  weights = jnp.where(counts, jnp.exp(logs - largest[:, None]), 0.0)
  divergences = inference.per_group(
    vae, gaussian_kl(inferred.mean, inferred.log_var), inferred.gain
  )
  divergences = jnp.where(counts[..., None], divergences, 0.0)
  return _Sums(
    largest=largest,
    weights=sums.weights * shrink + jnp.sum(weights, axis=1),
    squares=sums.squares * shrink**2 + jnp.sum(weights**2, axis=1),
    logs=sums.logs + jnp.sum(jnp.where(counts, logs, 0.0), axis=1),
    divergences=sums.divergences + jnp.sum(divergences, axis=1),
  )


@functools.cache  # deferred until the platform is known
def _compiled_add_chunk() -> Callable[..., _Sums]:
  return jax.jit(
    _add_chunk,
    static_argnums=0,
    donate_argnums=2,
    compiler_options=compiler.for_dense_networks(),
  )


def estimate(
  vae: VAE,
  params: Params,
  x: jax.Array,
  found: inference.Evidence,
  keys: jax.Array,
  num_samples: int,
  labels: jax.Array | None = None,
  components: Components | None = None,
) -> Estimates:
  """Estimates log Pr(x) of images.

  Args:
    vae: the static part.
    params: of both networks.
    x: [N, H, W, C], from `vae.observe`.
    found: of `inference.evidence` at x; of one layer of latents, the means and
      log-variances [N, Z] of their posteriors.
    keys: [N], each consumed.
    num_samples: K, draws per image; a tenth is rounded down, to at least 1.
    labels: int32 [N] of a conditional VAE, whose Pr(x|y) is estimated.
    components: of `inference.prior`; if None, a learned prior is computed anew
      for every chunk of draws.
  """
  zeros = jnp.zeros(len(x), vae.dtype)
  per_group = jnp.zeros((len(x), inference.num_groups(vae)), vae.dtype)
  sums = _Sums(zeros - jnp.inf, zeros, zeros, zeros, per_group)
  # Copied, because a donated pytree must not contain one buffer twice.
  sums = jax.tree.map(jnp.copy, sums)
  add_chunk = _compiled_add_chunk()
  tenth = max(1, num_samples // 10)
  for chunk in range(-(-num_samples // _CHUNK_DRAWS)):
    drawn = (x, found, labels, components, keys, jnp.int32(chunk))
    if chunk == (tenth - 1) // _CHUNK_DRAWS:  # the last chunk of the tenth
      copies = jax.tree.map(jnp.copy, sums)
      sums_of_tenth = add_chunk(vae, params, copies, *drawn, tenth)
    sums = add_chunk(vae, params, sums, *drawn, num_samples)
  sums, sums_of_tenth = jax.tree.map(
    lambda s: np.asarray(s, np.float64), (sums, sums_of_tenth)
  )
  share = sums.squares / sums.weights**2  # 1 / effective samples
  variance = np.maximum(share - 1 / num_samples, 0)  # of the mean weight
  # The error of a single draw is unknown.
  variance *= num_samples / (num_samples - 1) if num_samples > 1 else math.nan
  return Estimates(
    log_prob=_log_mean(sums, num_samples),
    log_prob_of_tenth=_log_mean(sums_of_tenth, tenth),
    standard_error=np.sqrt(variance),
    effective_samples=1 / share,
    elbo=sums.logs / num_samples,
    kl=sums.divergences / num_samples,
  )


def _log_mean(sums: _Sums, num_samples: int) -> np.ndarray:
  """The log of the mean weight of each image, float64 [N]."""
  return sums.largest + np.log(sums.weights) - math.log(num_samples)


def aggregated_posterior_kl(
  z: np.ndarray,
  mean: np.ndarray,
  log_var: np.ndarray,
  gain: np.ndarray | None = None,
) -> float:
  """KL[q(z) || Pr(z)] of the aggregated posterior q(z) = E[q(z|x)].

  It measures how far the latents that the decoder was trained on are from those
  that generation draws (Hoffman & Johnson 2016, "ELBO surgery").

  Args:
    z: [M, Z], each drawn from the posterior of one of the images.
    mean: [N, Z], of the posteriors of all images.
    log_var: [N, Z].
    gain: [M], how much more likely a learned prior finds each z than N(0, I);
      None if the prior is N(0, I).

  Returns:
    A Monte Carlo estimate, nats.
  """
  z, mean, log_var = (np.asarray(a, np.float64) for a in (z, mean, log_var))
  precision = np.exp(-log_var)
  # The expanded square of z - mean needs only matrix products.
  constant = -0.5 * (mean**2 * precision + log_var + _LOG_TWO_PI).sum(axis=1)
  total = 0.0
  for block in np.array_split(z, math.ceil(len(z) / 200)):
    logs = (
      constant + block @ (mean * precision).T - 0.5 * (block**2 @ precision.T)
    )  # [M, N]
    largest = logs.max(axis=1, keepdims=True)
    log_q = largest[:, 0] + np.log(np.exp(logs - largest).mean(axis=1))
    log_prior = -0.5 * (block**2 + _LOG_TWO_PI).sum(axis=1)
    total += float(np.sum(log_q - log_prior))
  if gain is not None:
    total -= float(np.sum(gain, dtype=np.float64))
  return total / len(z)
