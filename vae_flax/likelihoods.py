"""Likelihoods Pr(x|z, φ): what a decoder's outputs say of an image.

A decoder gives `num_outputs` numbers for every value (pixel and channel) of an
image. Log-likelihoods are in nats, summed over the values of an image.

Which x a likelihood is of: Bernoulli of binary images, 0 or 1; the Gaussian of
dequantised ones in [0, 1), whose density bounds the probability of the bytes;
the discretised logistic of the 256 values of a byte, as byte / 255.

Dimensions: H height, W width, C channels, P outputs a value.
"""

from collections.abc import Callable
import dataclasses
import math

import jax
import jax.numpy as jnp

_LOG_TWO_PI = math.log(2 * math.pi)


@dataclasses.dataclass(frozen=True)
class Likelihood:
  """A likelihood as pure functions.

  `log_prob(outputs [..., H, W, C, P], x [..., H, W, C]) -> [...]` in nats;
  `mean(outputs [..., H, W, C, P]) -> [..., H, W, C]`, the image to show, in
  [0, 1].
  """

  num_outputs: int  # P
  is_binary: bool  # x is 0 or 1
  is_density: bool  # of x in units of [0, 1); else a probability
  log_prob: Callable[[jax.Array, jax.Array], jax.Array]
  mean: Callable[[jax.Array], jax.Array]


def soft_bound(x: jax.Array, bound: float) -> jax.Array:
  """X squeezed smoothly into (-bound, bound), with slope 1 at 0."""
  return bound * jnp.tanh(x / bound)


def _sum(terms: jax.Array) -> jax.Array:
  """The sums of [..., N] over N.

  As products with ones: terms that a compiler fuses into a sum, it computes on
  one thread of a CPU.
  """
  ones = jnp.ones(terms.shape[-1], terms.dtype)
  return jnp.matmul(terms, ones, precision='highest')


def _sum_values(terms: jax.Array) -> jax.Array:
  """The sums of [..., H, W, C] over the values of an image, [...]."""
  return _sum(terms.reshape(*terms.shape[:-3], -1))


@jax.custom_jvp
def _sum_softplus(x: jax.Array) -> jax.Array:
  """The sums of log(1 + e^x) of [..., H, W, C] over the values, [...].

  log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), and one logarithm of a product of
  up to four such factors, each at most 2, takes the place of four logarithms.
  """
  x = x.reshape(*x.shape[:-3], -1)
  above = product = 0.0  # the product less 1, so that what is small is kept
  for part in jnp.split(x, math.gcd(x.shape[-1], 4), axis=-1):
    above += jnp.maximum(part, 0)
    rest = jnp.exp(-jnp.abs(part))
    product += rest + product * rest
  return _sum(above + jnp.log1p(product))


@_sum_softplus.defjvp
def _sum_softplus_jvp(primals, tangents):
  """By hand, as derived from the formula it would be wrong at 0."""
  (x,), (tangent,) = primals, tangents
  return _sum_softplus(x), _sum_values(tangent * jax.nn.sigmoid(x))


def bernoulli_log_prob(outputs: jax.Array, x: jax.Array) -> jax.Array:
  """Log Bernoulli(x; sigmoid(logit)), finite for every finite logit.

  For x of 0 or 1 it is -softplus of the logit against x, exact at both ends and
  with the right gradient at 0.

  Args:
    outputs: [..., H, W, C, 1] logits.
    x: [..., H, W, C] of 0 and 1 only; others are no values of a Bernoulli.
  """
  return -_sum_softplus((1 - 2 * x) * outputs[..., 0])


def gaussian_log_prob(
  mean: jax.Array, log_scale: jax.Array | float, x: jax.Array
) -> jax.Array:
  """Log N(x; mean, scale²), with the constant (UDL 17.6).

  Args:
    mean: [..., H, W, C].
    log_scale: of the standard deviation, [..., H, W, C] or a number.
    x: [..., H, W, C] in [0, 1).
  """
  squares = ((x - mean) * jnp.exp(-log_scale)) ** 2
  terms = squares + 2 * log_scale + _LOG_TWO_PI
  return -0.5 * _sum_values(terms)


def logistic_log_prob(
  mean: jax.Array, log_scale: jax.Array, x: jax.Array
) -> jax.Array:
  """Log of the logistic's mass on the bin of a byte.

  Bins are 1/255 wide; the lowest and the highest reach to infinity, so the 256
  masses sum to one. With a and b the standardised ends of a bin, its mass is
  sig(a) - sig(b) = sig(a) sig(-b) (1 - e^(b - a)): the logarithm of that
  product is finite however far the bin is from the mean (Kingma et al. 2016,
  arXiv:1606.04934, have the difference itself).

  Args:
    mean: [..., H, W, C].
    log_scale: [..., H, W, C].
    x: [..., H, W, C], bytes / 255.
  """
  width = 1 / 255
  inverse_scale = jnp.exp(-log_scale)
  above = (x + width / 2 - mean) * inverse_scale
  below = (x - width / 2 - mean) * inverse_scale
  # Half a bin from the ends is nearer to no other value.
  is_lowest, is_highest = x < width / 2, x > 1 - width / 2
  up_to = jnp.where(is_highest, 0.0, jax.nn.log_sigmoid(above))
  from_on = jnp.where(is_lowest, 0.0, jax.nn.log_sigmoid(-below))
  inside = jnp.log(-jnp.expm1(-width * inverse_scale))
  is_inner = ~(is_lowest | is_highest)
  terms = up_to + from_on + jnp.where(is_inner, inside, 0.0)
  return _sum_values(terms)


def bernoulli() -> Likelihood:
  """For binary images; the decoder gives logits."""
  return Likelihood(
    num_outputs=1,
    is_binary=True,
    is_density=False,
    log_prob=bernoulli_log_prob,
    mean=lambda outputs: jax.nn.sigmoid(outputs[..., 0]),
  )


def _shown(mean: jax.Array) -> jax.Array:
  return jnp.clip(mean, 0.0, 1.0)


def gaussian(scale: float) -> Likelihood:
  """For dequantised images; the decoder gives means.

  Args:
    scale: standard deviation of every value, in units of [0, 1).
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
  )


# Scales from e^-7 = 1/1097, well below a byte's step, to e^1.
_LOG_SCALE_CENTRE, _LOG_SCALE_BOUND = -3.0, 4.0


def _log_scale(outputs: jax.Array) -> jax.Array:
  return _LOG_SCALE_CENTRE + soft_bound(outputs[..., 1], _LOG_SCALE_BOUND)


def _with_learned_scale(
  log_prob: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
  is_density: bool,
) -> Likelihood:
  """Of a location and a log-scale for each value, which the decoder gives."""
  return Likelihood(
    num_outputs=2,
    is_binary=False,
    is_density=is_density,
    log_prob=lambda outputs, x: log_prob(
      outputs[..., 0], _log_scale(outputs), x
    ),
    mean=lambda outputs: _shown(outputs[..., 0]),
  )


def learned_gaussian() -> Likelihood:
  """For dequantised images; the decoder gives means and log-scales."""
  return _with_learned_scale(gaussian_log_prob, is_density=True)


def logistic() -> Likelihood:
  """For bytes; the decoder gives means and log-scales."""
  return _with_learned_scale(logistic_log_prob, is_density=False)


# By name; each takes the fixed scale, which only 'gaussian' uses.
LIKELIHOODS: dict[str, Callable[[float], Likelihood]] = {
  'bernoulli': lambda unused_scale: bernoulli(),
  'gaussian': gaussian,
  'gaussian_learned': lambda unused_scale: learned_gaussian(),
  'logistic': lambda unused_scale: logistic(),
}


def bits_per_dim(
  nll_nats: float, num_values: int, likelihood: Likelihood
) -> float:
  """Bits a value (pixel and channel) of an image.

  A density over [0, 1) is one of values 1/256 apart: log 256 nats a value turn
  it into a bound on the probability of bytes (Theis et al. 2015,
  arXiv:1511.01844, section 3.1).

  Args:
    nll_nats: -log Pr(x) of an image.
    num_values: H * W * C.
    likelihood: that Pr(x) is made of.
  """
  if likelihood.is_density:
    nll_nats += num_values * math.log(256)
  return nll_nats / (num_values * math.log(2))
