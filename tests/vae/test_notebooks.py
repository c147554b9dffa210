"""Gradients of expectations and importance sampling, UDL's notebooks 17.2-3."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_flax import mixture as mixture_lib
from vae_flax.mixture import Mixture

# Of ε ~ N(0, 1), for exact expectations.
NOISE = np.linspace(-12, 12, 4_001)
NUM_SAMPLES = 50_000


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


sample = jax.jit(mixture_lib.sample, static_argnames='num')


def gaussian(mean, variance):
  parts = (1, mean, variance)
  return Mixture(*(jnp.asarray(part, float).reshape(1) for part in parts))


def moments_under_noise(values):
  """Mean and variance of values at NOISE, exact but for quadrature."""
  density = np.exp(-0.5 * NOISE**2) / np.sqrt(2 * np.pi)
  mean = np.trapezoid(density * values, NOISE)
  return mean, np.trapezoid(density * (values - mean) ** 2, NOISE)


def assert_estimates(draws, mean):
  """The mean of draws is `mean`, but for five standard errors."""
  error = float(np.std(draws)) / np.sqrt(len(draws))
  assert np.mean(draws) == pytest.approx(mean, abs=5 * error)


def drawn(phi):
  """Pr(x|φ) of notebook 17.2."""
  return gaussian(phi**3, jnp.exp(2 * phi))


def function(x):
  return x**2 + jnp.sin(x)


def expectation(phi):
  mean, variance = phi**3, jnp.exp(2 * phi)
  return mean**2 + variance + jnp.sin(mean) * jnp.exp(-variance / 2)


@jax.jit
def reparameterised(phi, noise):
  """Estimates of the gradient, one for each noise (UDL 17.25)."""

  def of_one(noise):
    return jax.grad(lambda phi: function(phi**3 + jnp.exp(phi) * noise))(phi)

  return jax.vmap(of_one)(noise)


@jax.jit
def score_function(phi, x):
  """Estimates of the gradient, one for each x (UDL 17.33-17.34)."""

  def of_one(x):
    log_density = jax.grad(
      lambda phi: mixture_lib.log_density(drawn(phi), x[None])[0]
    )
    return function(x) * log_density(phi)

  return jax.vmap(of_one)(x)


@pytest.mark.parametrize(
  ('phi', 'expected'), [(0.5, 2.765933), (-0.1, 0.818068)]
)
def test_expectation_has_a_closed_form(phi, expected):
  assert expectation(phi) == pytest.approx(expected, abs=1e-6)
  mean, _ = moments_under_noise(function(phi**3 + np.exp(phi) * NOISE))
  assert mean == pytest.approx(expected, abs=1e-6)
  _, x = sample(drawn(phi), jax.random.key(0), NUM_SAMPLES)
  assert_estimates(function(x), expected)


def test_both_gradients_are_right_on_average():
  phi, expected = 0.5, 5.728164
  assert jax.grad(expectation)(phi) == pytest.approx(expected, abs=1e-6)
  exact, _ = moments_under_noise(reparameterised(phi, NOISE))
  assert exact == pytest.approx(expected, abs=1e-6)
  exact, _ = moments_under_noise(
    score_function(phi, phi**3 + np.exp(phi) * NOISE)
  )
  assert exact == pytest.approx(expected, abs=1e-6)


def test_reparameterised_gradients_vary_far_less():
  phi = 0.3
  expected = jax.grad(expectation)(phi)
  _, path_variance = moments_under_noise(reparameterised(phi, NOISE))
  assert path_variance == pytest.approx(25.80, abs=0.005)
  _, score_variance = moments_under_noise(
    score_function(phi, phi**3 + np.exp(phi) * NOISE)
  )
  assert score_variance == pytest.approx(247.41, abs=0.005)

  key_noise, key_x = jax.random.split(jax.random.key(1))
  noise = jax.random.normal(key_noise, (NUM_SAMPLES,))
  draws = np.asarray(reparameterised(phi, noise))
  assert_estimates(draws, expected)
  assert draws.var() == pytest.approx(path_variance, rel=0.1)
  _, x = sample(drawn(phi), key_x, NUM_SAMPLES)
  draws = np.asarray(score_function(phi, x))
  assert_estimates(draws, expected)
  assert draws.var() == pytest.approx(score_variance, rel=0.25)


def test_expectation_under_a_standard_normal():
  expected = 0.4315874
  values = np.exp(-((NOISE - 1) ** 4))
  assert moments_under_noise(values)[0] == pytest.approx(expected, abs=1e-7)
  _, y = sample(gaussian(0, 1), jax.random.key(2), NUM_SAMPLES)
  assert_estimates(np.exp(-((y - 1) ** 4)), expected)


def test_importance_sampling_takes_the_variance_away():
  """UDL 17.28: the same expectation, from where the function is large."""
  expected = 0.4316417

  def rare(y):
    return 20.446 * np.exp(-((y - 3) ** 4))

  def weighted(y):
    log_weights = mixture_lib.log_density(
      gaussian(0, 1), y
    ) - mixture_lib.log_density(gaussian(3, 1), y)
    return rare(y) * np.exp(log_weights)

  mean, variance = moments_under_noise(rare(NOISE))
  assert mean == pytest.approx(expected, abs=1e-7)
  assert variance == pytest.approx(5.743, abs=5e-4)
  mean, reduced = moments_under_noise(weighted(3 + NOISE))
  assert mean == pytest.approx(expected, abs=1e-7)
  assert reduced == pytest.approx(0.3117, abs=5e-5)

  key_plain, key_weighted = jax.random.split(jax.random.key(3))
  _, y = sample(gaussian(0, 1), key_plain, NUM_SAMPLES)
  assert_estimates(rare(y), expected)
  assert np.var(rare(y)) == pytest.approx(variance, rel=0.1)
  _, y = sample(gaussian(3, 1), key_weighted, NUM_SAMPLES)
  assert_estimates(weighted(y), expected)
  assert np.var(weighted(y)) == pytest.approx(reduced, rel=0.1)
