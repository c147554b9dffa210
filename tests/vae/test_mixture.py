"""The mixture of Gaussians against NumPy, and EM against its promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_flax import mixture as mixture_lib
from vae_flax.mixture import Mixture

# Compiled whole: to compile their operations one by one takes far longer.
log_density = jax.jit(mixture_lib.log_density)
responsibilities = jax.jit(mixture_lib.responsibilities)
sample = jax.jit(mixture_lib.sample, static_argnames='num')
em_step = jax.jit(mixture_lib.em_step)
fit = jax.jit(mixture_lib.fit, static_argnames='num_steps')

WEIGHTS = np.array([0.2, 0.5, 0.3])
MEANS = np.array([-2.0, 0.5, 4.0])
VARIANCES = np.array([0.25, 1.0, 0.49])
EXACT = Mixture(WEIGHTS, MEANS, VARIANCES)
SINGLE = Mixture(*(values.astype(np.float32) for values in EXACT))


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def joint_densities(mixture, x):
  """λ_n N(x; μ_n, σ²_n), [B, N], as the book writes it (UDL 17.4)."""
  squares = (x[:, None] - mixture.means) ** 2 / (2 * mixture.variances)
  return (
    mixture.weights * np.exp(-squares) / np.sqrt(2 * np.pi * mixture.variances)
  )


@pytest.fixture
def data(x64):
  """Draws of EXACT, enough of them to find it again."""
  return sample(EXACT, jax.random.key(5), 4_000)[1]


def test_density_is_the_weighted_sum_of_gaussians(x64):
  x = np.linspace(-6, 8, 57)
  np.testing.assert_allclose(
    np.exp(log_density(EXACT, x)),
    joint_densities(EXACT, x).sum(axis=1),
    rtol=1e-13,
  )


def test_density_integrates_to_one(x64):
  x = np.linspace(-15, 20, 2_001)
  density = np.exp(log_density(EXACT, x))
  assert np.trapezoid(density, x) == pytest.approx(1, rel=1e-13)


def test_single_precision_agrees_with_double():
  x = np.linspace(-30, 30, 31)
  with jax.enable_x64(True):
    expected = np.asarray(log_density(EXACT, x))
  actual = log_density(SINGLE, x.astype(np.float32))
  assert actual.dtype == np.float32
  np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_responsibilities_are_those_of_bayes_rule(x64):
  x = np.linspace(-6, 8, 57)
  joint = joint_densities(EXACT, x)
  np.testing.assert_allclose(
    responsibilities(EXACT, x),
    joint / joint.sum(axis=1, keepdims=True),
    rtol=1e-12,
  )


def test_responsibilities_sum_to_one_however_far_x_is():
  x = jnp.array([-1e15, -1e4, -100.0, 0.0, 1.7, 100.0, 1e4, 1e15])
  shares = responsibilities(SINGLE, x)
  np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
  assert shares[1, 1] == 1  # the widest component has the far ends
  assert shares[-2, 1] == 1


def test_far_away_values_and_gradients_are_finite():
  x = jnp.array([-1e15, -1e4, 1e4, 1e15])
  values = log_density(SINGLE, x)
  gradient = jax.grad(lambda x: jnp.sum(log_density(SINGLE, x)))(x)
  # There the widest component is all that counts.
  np.testing.assert_allclose(values, -0.5 * (x - 0.5) ** 2, rtol=1e-5)
  np.testing.assert_allclose(gradient, 0.5 - x, rtol=1e-5)
  parameters = jax.grad(lambda m: jnp.sum(log_density(m, x)))(SINGLE)
  assert all(np.isfinite(leaf).all() for leaf in parameters)


def test_a_component_of_weight_zero_counts_for_nothing():
  weights, means, variances = SINGLE
  more = Mixture(
    jnp.append(weights, 0), jnp.append(means, 9), jnp.append(variances, 1)
  )
  x = jnp.linspace(-5, 12, 18)

  @jax.jit
  def total(mixture):
    return jnp.sum(log_density(mixture, x))

  assert total(more) == pytest.approx(float(total(SINGLE)), rel=1e-6)
  slope = jax.jit(jax.grad(total))
  for gradient, expected in zip(slope(more), slope(SINGLE), strict=True):
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[:3], expected, rtol=1e-5)
  shares = responsibilities(more, x)
  assert (shares[:, 3] == 0).all()
  components, _ = sample(more, jax.random.key(0), 1_000)
  assert components.max() == 2


def test_moments_of_samples_are_those_of_the_mixture():
  num = 20_000
  components, x = sample(SINGLE, jax.random.key(1), num)
  assert x.shape == components.shape == (num,)
  mean = np.sum(WEIGHTS * MEANS)
  variance = np.sum(WEIGHTS * (VARIANCES + MEANS**2)) - mean**2
  assert np.mean(x) == pytest.approx(mean, abs=5 * np.sqrt(variance / num))
  assert np.var(x) == pytest.approx(variance, rel=0.05)
  for n in range(3):
    own = np.asarray(x)[np.asarray(components) == n]
    share = len(own) / num
    assert share == pytest.approx(WEIGHTS[n], abs=5 * np.sqrt(0.25 / num))
    error = np.sqrt(VARIANCES[n] / len(own))
    assert own.mean() == pytest.approx(MEANS[n], abs=5 * error)
    assert own.var() == pytest.approx(VARIANCES[n], rel=0.1)


def test_em_step_takes_the_weighted_moments_of_the_data(data):
  start = Mixture(np.full(2, 0.5), np.array([-1.0, 3.0]), np.ones(2))
  x = np.asarray(data)
  joint = joint_densities(start, x)
  shares = joint / joint.sum(axis=1, keepdims=True)
  counts = shares.sum(axis=0)
  means = shares.T @ x / counts
  second = shares.T @ x**2 / counts
  actual = em_step(start, x)
  np.testing.assert_allclose(actual.weights, counts / len(x), rtol=1e-10)
  np.testing.assert_allclose(actual.means, means, rtol=1e-10)
  np.testing.assert_allclose(actual.variances, second - means**2, rtol=1e-10)


def test_one_gaussian_is_fitted_in_one_step(data):
  start = Mixture(np.ones(1), np.array([7.0]), np.array([0.1]))
  path, likelihoods = fit(start, data, 2)
  mean, variance = float(np.mean(data)), float(np.var(data))
  for step in (1, 2):
    assert path.means[step] == pytest.approx(mean, rel=1e-12)
    assert path.variances[step] == pytest.approx(variance, rel=1e-12)
  expected = -0.5 * (np.log(2 * np.pi * variance) + 1)
  assert likelihoods[1] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('seed', range(2))
def test_em_never_lowers_the_likelihood(data, seed):
  random = np.random.default_rng(seed)
  start = Mixture(
    random.dirichlet(np.ones(4)), random.normal(0, 4, 4), np.full(4, 0.5)
  )
  x = data[:200]
  for min_variance in (1e-3, 0.4):  # the second holds components back
    path, likelihoods = fit(start, x, 60, min_variance)
    assert likelihoods.shape == (61,)
    assert (np.diff(likelihoods) > -1e-13).all()
    assert likelihoods[-1] > likelihoods[0]
    np.testing.assert_allclose(np.sum(path.weights, axis=1), 1, rtol=1e-12)
    expected = [
      np.mean(log_density(Mixture(*(a[i] for a in path)), x)) for i in (0, 60)
    ]
    np.testing.assert_allclose(likelihoods[np.array([0, -1])], expected)
  assert path.variances.min() == 0.4


def test_em_recovers_the_mixture_that_drew_the_data(data):
  start = Mixture(np.full(3, 1 / 3), np.array([-1.0, 0.0, 1.0]), np.ones(3))
  path, likelihoods = fit(start, data, 100)
  np.testing.assert_allclose(path.weights[-1], WEIGHTS, atol=0.03)
  np.testing.assert_allclose(path.means[-1], MEANS, atol=0.08)
  np.testing.assert_allclose(path.variances[-1], VARIANCES, atol=0.1)
  truth = np.mean(log_density(EXACT, data))
  # As many parameters as gain about half a nat each, over all the data.
  assert truth <= likelihoods[-1] <= truth + 10 / len(data)


def test_em_does_not_fall_into_a_point(x64):
  x = np.array([-1.2, -0.7, 0.1, 0.4, 1.1, 5.0])
  start = Mixture(np.full(2, 0.5), np.array([0.0, 5.0]), np.array([1.0, 1e-2]))
  path, likelihoods = fit(start, x, 20)
  assert path.variances[-1, 1] == 1e-3
  assert np.isfinite(likelihoods).all()
  free, _ = fit(start, x, 20, min_variance=0.0)
  assert not free.variances[-1, 1] > 1e-30  # as it does without a bound


def test_a_component_without_data_stays_where_it_is():
  start = Mixture(
    jnp.array([0.5, 0.5]), jnp.array([0.0, 1e4]), jnp.array([1.0, 2.0])
  )
  path, likelihoods = fit(start, jnp.linspace(-2, 2, 20), 3)
  np.testing.assert_array_equal(path.weights[-1], [1, 0])
  assert path.means[-1, 1] == 1e4
  assert path.variances[-1, 1] == 2
  assert np.isfinite(likelihoods).all()
