"""The divergence of the aggregated posterior, against closed forms."""

import numpy as np
import pytest

from vae_flax import losses
from vae_flax.estimation import aggregated_posterior_kl


def posteriors(num=300, size=3, seed=0):
  random = np.random.default_rng(seed)
  mean = random.normal(0, 1, (num, size))
  log_var = random.normal(-1, 0.5, (num, size))
  z = mean + np.exp(0.5 * log_var) * random.normal(size=mean.shape)
  return z, mean, log_var


def mean_kl(mean, log_var):
  return float(np.sum(losses.gaussian_kl(mean, log_var), axis=1).mean())


def test_aggregate_of_priors_is_the_prior():
  z = np.random.default_rng(0).normal(size=(50, 3))
  zeros = np.zeros((400, 3))
  assert abs(aggregated_posterior_kl(z, zeros, zeros)) < 1e-12


def test_aggregate_of_equal_posteriors_is_that_gaussian():
  num = 20_000
  mean = np.tile([[0.5, -2.0]], (num, 1))
  log_var = np.tile([[-1.0, 0.3]], (num, 1))
  noise = np.random.default_rng(0).normal(size=(num, 2))
  z = mean + np.exp(0.5 * log_var) * noise
  actual = aggregated_posterior_kl(z, mean[:5], log_var[:5])
  error = np.std(0.5 * np.sum(z**2 - noise**2, axis=1)) / np.sqrt(num)
  assert actual == pytest.approx(mean_kl(mean[:1], log_var[:1]), abs=4 * error)


def test_aggregate_is_the_mixture_by_hand():
  z, mean, log_var = posteriors(450)
  deviations = z[:, None] - mean[None]
  log_q = -0.5 * np.sum(
    deviations**2 / np.exp(log_var) + log_var + np.log(2 * np.pi), axis=2
  )
  log_prior = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=1)
  expected = np.mean(np.log(np.exp(log_q).mean(axis=1)) - log_prior)
  # More draws than a block has, in any order, of any precision.
  actual = aggregated_posterior_kl(z, mean, log_var)
  assert actual == pytest.approx(expected, rel=1e-10)
  single = [a.astype(np.float32) for a in (z, mean, log_var)]
  assert aggregated_posterior_kl(*single) == pytest.approx(actual, rel=1e-4)


def test_aggregate_tells_at_most_what_the_posteriors_do():
  """Their difference, the mutual information, is from 0 to log N."""
  for seed in range(3):
    z, mean, log_var = posteriors(seed=seed)
    information = mean_kl(mean, log_var) - aggregated_posterior_kl(
      z, mean, log_var
    )
    assert 0 < information < np.log(300)


def test_posteriors_far_apart_tell_which_image_it_is():
  num = 64
  mean = 100.0 * np.arange(num)[:, None] * np.ones((1, 2))
  log_var = np.full((num, 2), -3.0)
  # As many draws of each, so that the mean is without noise but for z's own.
  noise = np.random.default_rng(0).normal(size=(100, num, 2))
  z = (mean + np.exp(0.5 * log_var) * noise).reshape(-1, 2)
  log_ratio = 0.5 * np.mean(
    np.sum(z**2 - noise.reshape(-1, 2) ** 2 - (-3.0), axis=1)
  )
  aggregated = aggregated_posterior_kl(z, mean, log_var)
  assert log_ratio - aggregated == pytest.approx(np.log(num), rel=1e-8)
