"""Likelihoods Pr(x|z, φ) of an image, given the outputs of a decoder.

A decoder has `num_outputs` outputs for every value (pixel and channel) of an
image. Log-likelihoods are in nats and summed over the values of an image.

Each likelihood takes its own kind of x:
  Bernoulli: binary images of 0 and 1.
  Gaussian: dequantised images in [0, 1). The density bounds the probability of
    the bytes.
  Discretised logistic: byte / 255 for the 256 values of a byte.

Dimensions: H height, W width, C channels, P outputs per value.
"""

from collections.abc import Callable
import dataclasses
import math

import jax
import jax.numpy as jnp

from common_flax.cpu.sums import sum_softplus
from common_flax.cpu.sums import sum_values

_LOG_TWO_PI = math.log(2 * math.pi)


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """A likelihood as pure functions.

  `log_prob(outputs [..., H, W, C, P], x [..., H, W, C]) -> [...]` is in nats.
  `mean(outputs [..., H, W, C, P]) -> [..., H, W, C]` is the image to show, in
  [0, 1].
  `sample(key, outputs [..., H, W, C, P]) -> [..., H, W, C]` draws x, and
  consumes the key; None if there is no such function.
  """

  num_outputs: int  # P
  is_binary: bool  # x is 0 or 1
  is_density: bool  # a density over [0, 1), not a probability
  log_prob: Callable[[jax.Array, jax.Array], jax.Array]
  mean: Callable[[jax.Array], jax.Array]
  sample: Callable[[jax.Array, jax.Array], jax.Array] | None = None


def soft_bound(x: jax.Array, bound: float) -> jax.Array:
  """Squeezes x smoothly into (-bound, bound), with slope 1 at 0."""
  return bound * jnp.tanh(x / bound)


def bernoulli_log_prob(outputs: jax.Array, x: jax.Array) -> jax.Array:
  """Log Bernoulli(x; sigmoid(logit)), finite for every finite logit.

  It is the sum of -log(1 + e^-logit) where x is 1 and of -log(1 + e^logit)
  where x is 0.

  Args:
    outputs: [..., H, W, C, 1] logits.
    x: [..., H, W, C], each 0 or 1.
  """
  return -sum_softplus((1 - 2 * x) * outputs[..., 0])


def gaussian_log_prob(
  mean: jax.Array, log_scale: jax.Array | float, x: jax.Array
) -> jax.Array:
  """Log N(x; mean, scale²), including the constant (UDL 17.6).

  Args:
    mean: [..., H, W, C].
    log_scale: log standard deviation, [..., H, W, C] or a number.
    x: [..., H, W, C] in [0, 1).
  """
  squares = ((x - mean) * jnp.exp(-log_scale)) ** 2
  terms = squares + 2 * log_scale + _LOG_TWO_PI
  return -0.5 * sum_values(terms)


def logistic_log_prob(
  mean: jax.Array, log_scale: jax.Array, x: jax.Array
) -> jax.Array:
  """Log mass of a logistic distribution on the bin of a byte.

  Bins are 1/255 wide. The lowest and the highest bin extend to infinity, so the
  256 masses sum to one. A bin with standardised ends b < a has the mass
  sig(a) - sig(b) = sig(a) sig(-b) (1 - e^(b - a)). The logarithm of the product
  is finite however far the bin is from the mean; that of the difference (Kingma
  et al. 2016, arXiv:1606.04934) is not.

  Args:
    mean: [..., H, W, C].
    log_scale: [..., H, W, C].
    x: [..., H, W, C], bytes / 255.
  """
  width = 1 / 255
  inverse_scale = jnp.exp(-log_scale)
  above = (x + width / 2 - mean) * inverse_scale
  below = (x - width / 2 - mean) * inverse_scale
  # Half a bin from 0 and 1, rounding cannot reach another byte's value.
  is_lowest, is_highest = x < width / 2, x > 1 - width / 2
  up_to = jnp.where(is_highest, 0.0, jax.nn.log_sigmoid(above))
  from_on = jnp.where(is_lowest, 0.0, jax.nn.log_sigmoid(-below))
  inside = jnp.log(-jnp.expm1(-width * inverse_scale))
  is_inner = ~(is_lowest | is_highest)
  terms = up_to + from_on + jnp.where(is_inner, inside, 0.0)
  return sum_values(terms)


def bernoulli() -> Likelihood:
  """For binary images; the decoder's outputs are logits."""
  return Likelihood(
    num_outputs=1,
    is_binary=True,
    is_density=False,
    log_prob=bernoulli_log_prob,
    mean=lambda outputs: jax.nn.sigmoid(outputs[..., 0]),
    sample=lambda key, outputs: jax.random.bernoulli(
      key, jax.nn.sigmoid(outputs[..., 0])
    ).astype(outputs.dtype),
  )


def _shown(mean: jax.Array) -> jax.Array:
  return jnp.clip(mean, 0.0, 1.0)


def _gaussian_sample(
  key: jax.Array, mean: jax.Array, log_scale: jax.Array | float
) -> jax.Array:
  noise = jax.random.normal(key, mean.shape, mean.dtype)
  return mean + jnp.exp(log_scale) * noise


def _logistic_sample(
  key: jax.Array, mean: jax.Array, log_scale: jax.Array
) -> jax.Array:
  noise = jax.random.logistic(key, mean.shape, mean.dtype)
  values = mean + jnp.exp(log_scale) * noise
  return jnp.clip(jnp.round(255 * values), 0, 255) / 255


def gaussian(scale: float) -> Likelihood:
  """For dequantised images; the decoder's outputs are means.

  Args:
    scale: standard deviation of every value.
  """
  log_scale = math.log(scale)
  return Likelihood(
    num_outputs=1,
    is_binary=False,
    is_density=True,
    log_prob=lambda outputs, x: gaussian_log_prob(
      outputs[..., 0], log_scale, x
    ),
    mean=lambda outputs: _shown(outputs[..., 0]),
    sample=lambda key, outputs: _gaussian_sample(
      key, outputs[..., 0], log_scale
    ),
  )


# Scales range from e^-7 = 1/1097, well below a byte's step, to e^1.
_LOG_SCALE_CENTRE, _LOG_SCALE_BOUND = -3.0, 4.0


def _log_scale(outputs: jax.Array) -> jax.Array:
  return _LOG_SCALE_CENTRE + soft_bound(outputs[..., 1], _LOG_SCALE_BOUND)


def _with_learned_scale(
  log_prob: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
  sample: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
  is_density: bool,
) -> Likelihood:
  """A likelihood whose decoder outputs a location and a log-scale per value."""
  return Likelihood(
    num_outputs=2,
    is_binary=False,
    is_density=is_density,
    log_prob=lambda outputs, x: log_prob(
      outputs[..., 0], _log_scale(outputs), x
    ),
    mean=lambda outputs: _shown(outputs[..., 0]),
    sample=lambda key, outputs: sample(
      key, outputs[..., 0], _log_scale(outputs)
    ),
  )


def learned_gaussian() -> Likelihood:
  """For dequantised images; the decoder's outputs are means and log-scales."""
  return _with_learned_scale(
    gaussian_log_prob, _gaussian_sample, is_density=True
  )


def logistic() -> Likelihood:
  """For bytes; the decoder's outputs are locations and log-scales."""
  return _with_learned_scale(
    logistic_log_prob, _logistic_sample, is_density=False
  )


# Each takes the fixed scale, which only 'gaussian' uses.
LIKELIHOODS: dict[str, Callable[[float], Likelihood]] = {
  'bernoulli': lambda unused_scale: bernoulli(),
  'gaussian': gaussian,
  'gaussian_learned': lambda unused_scale: learned_gaussian(),
  'logistic': lambda unused_scale: logistic(),
}


def bits_per_dim(
  nll_nats: float, num_values: int, likelihood: Likelihood
) -> float:
  """Bits per value (pixel and channel) of an image.

  Bytes are 1/256 apart in [0, 1). Adding log 256 nats per value to the negative
  log of a density bounds the negative log probability of the bytes from above
  (Theis et al. 2015, arXiv:1511.01844, section 3.1).

  Args:
    nll_nats: -log Pr(x) of an image.
    num_values: H * W * C.
    likelihood: the likelihood Pr(x|z) behind Pr(x).
  """
  if likelihood.is_density:
    nll_nats += num_values * math.log(256)
  return nll_nats / (num_values * math.log(2))
