"""Likelihoods whose values are independent, given the outputs of a decoder.

Dimensions: H height, W width, C channels, P outputs per value.
"""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp

from common_flax.cpu.sums import sum_softplus
from common_flax.cpu.sums import sum_values
from common_flax.likelihoods.likelihood import bounded_log_scale
from common_flax.likelihoods.likelihood import Likelihood
from common_flax.likelihoods.likelihood import shown

_LOG_TWO_PI = math.log(2 * math.pi)


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


def logistic_log_masses(
  mean: jax.Array, log_scale: jax.Array, x: jax.Array
) -> jax.Array:
  """Log mass of a logistic distribution on the bin of each byte.

  Bins are 1/255 wide. The lowest and the highest bin extend to infinity, so the
  256 masses sum to one. A bin with standardised ends b < a has the mass
  sig(a) - sig(b) = sig(a) sig(-b) (1 - e^(b - a)). The logarithm of the product
  is finite however far the bin is from the mean; that of the difference (Kingma
  et al. 2016, arXiv:1606.04934) is not.

  Args:
    mean: of any shape.
    log_scale: of the same shape.
    x: bytes / 255, of the same shape or one that broadcasts to it.

  Returns:
    Elementwise, in nats.
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
  return up_to + from_on + jnp.where(is_inner, inside, 0.0)


def logistic_log_prob(
  mean: jax.Array, log_scale: jax.Array, x: jax.Array
) -> jax.Array:
  """The sum of `logistic_log_masses` over an image.

  Args:
    mean: [..., H, W, C].
    log_scale: [..., H, W, C].
    x: [..., H, W, C], bytes / 255.
  """
  return sum_values(logistic_log_masses(mean, log_scale, x))


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
    mean=lambda outputs: shown(outputs[..., 0]),
    sample=lambda key, outputs: _gaussian_sample(
      key, outputs[..., 0], log_scale
    ),
  )


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
      outputs[..., 0], bounded_log_scale(outputs[..., 1]), x
    ),
    mean=lambda outputs: shown(outputs[..., 0]),
    sample=lambda key, outputs: sample(
      key, outputs[..., 0], bounded_log_scale(outputs[..., 1])
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
