"""Likelihoods Pr(x|z, φ) of an image, given the outputs of a decoder.

A decoder has `num_outputs` outputs for every value (pixel and channel) of an
image. Log-likelihoods are in nats and summed over the values of an image.

Each likelihood takes its own kind of x:
  Bernoulli: binary images of 0 and 1.
  Gaussian: dequantised images in [0, 1). The density bounds the probability of
    the bytes.
  Discretised logistic, and mixture of these: byte / 255 for the 256 values of a
    byte.
"""

from collections.abc import Callable
import math

from common_flax.likelihoods.independent import bernoulli
from common_flax.likelihoods.independent import bernoulli_log_prob
from common_flax.likelihoods.independent import gaussian
from common_flax.likelihoods.independent import gaussian_log_prob
from common_flax.likelihoods.independent import learned_gaussian
from common_flax.likelihoods.independent import logistic
from common_flax.likelihoods.independent import logistic_log_prob
from common_flax.likelihoods.likelihood import Likelihood
from common_flax.likelihoods.likelihood import soft_bound
from common_flax.likelihoods.logistic_mixture import logistic_mixture

__all__ = [
  'LIKELIHOODS',
  'Likelihood',
  'bernoulli_log_prob',
  'bits_per_dim',
  'gaussian_log_prob',
  'logistic_log_prob',
  'soft_bound',
]

# Each takes the fixed scale, which only 'gaussian' uses, and the numbers of
# components and of channels, which only 'logistic_mixture' uses.
LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
  'bernoulli': lambda *unused: bernoulli(),
  'gaussian': lambda scale, *unused: gaussian(scale),
  'gaussian_learned': lambda *unused: learned_gaussian(),
  'logistic': lambda *unused: logistic(),
  'logistic_mixture': lambda unused_scale, num_components=10, num_channels=1: (
    logistic_mixture(num_components, num_channels)
  ),
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
