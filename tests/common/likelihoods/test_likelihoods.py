"""Likelihoods against NumPy in float64, as distributions and at extremes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from common_flax import likelihoods
from common_flax.likelihoods import bits_per_dim
from common_flax.likelihoods import LIKELIHOODS

bernoulli_log_prob = jax.jit(likelihoods.bernoulli_log_prob)
gaussian_log_prob = jax.jit(likelihoods.gaussian_log_prob)
logistic_log_prob = jax.jit(likelihoods.logistic_log_prob)

EXTREMES = np.array([-1e4, -88.0, -1.0, 0.0, 1.0, 88.0, 1e4])
MEANS = (-1e4, -10.0, -0.1, 0.0, 0.3, 0.5001, 1.0, 1.7, 20.0, 1e4)
LOG_SCALES = (-7.0, -5.5, -3.0, -1.0, 1.0)


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def of_pixels(values):
  """Turns numbers [N] into N images of one grey pixel."""
  return np.asarray(values).reshape(-1, 1, 1, 1)


def with_outputs(*outputs):
  """Turns P arrays [N] into the outputs for N images of one grey pixel."""
  return np.stack([of_pixels(output) for output in outputs], axis=-1)


def value_and_gradient(log_prob, outputs, *rest):
  """Values [N] of N images, and the gradient of each by its own outputs."""

  def total(outputs):
    values = log_prob(outputs, *rest)
    return jnp.sum(values), values

  gradient, values = jax.jit(jax.grad(total, has_aux=True))(outputs)
  return np.asarray(values), np.asarray(gradient)


def test_bernoulli_sums_to_one_over_its_two_values(x64):
  outputs = with_outputs(np.linspace(-30, 30, 121))
  both = [
    bernoulli_log_prob(outputs, np.full(outputs.shape[:-1], x))
    for x in (0.0, 1.0)
  ]
  np.testing.assert_allclose(np.exp(both).sum(axis=0), 1, rtol=1e-14)


def test_bernoulli_is_that_of_probabilities(x64):
  random = np.random.default_rng(0)
  outputs = random.normal(0, 3, (2, 5, 3, 4, 2, 1))
  x = random.integers(0, 2, (2, 5, 3, 4, 2)).astype(float)
  p = expit(outputs[..., 0])
  expected = np.log(np.where(x == 1, p, 1 - p)).sum(axis=(2, 3, 4))
  actual = bernoulli_log_prob(outputs, x)
  assert actual.shape == (2, 5)
  np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize('x', [0.0, 1.0])
def test_bernoulli_is_right_at_extreme_logits(x):
  outputs = with_outputs(EXTREMES.astype(np.float32))
  values, gradient = value_and_gradient(
    likelihoods.bernoulli_log_prob, outputs, np.full_like(outputs[..., 0], x)
  )
  expected = -np.logaddexp(0, (1 - 2 * x) * EXTREMES)
  assert np.isfinite(expected).all()
  # A CPU rounds sigmoid(-88) to 0.
  close = dict(rtol=1e-6, atol=1e-37)
  np.testing.assert_allclose(values, expected, **close)
  np.testing.assert_allclose(
    gradient[:, 0, 0, 0, 0], x - expit(EXTREMES), **close
  )
  assert gradient[EXTREMES == 0].item() == x - 0.5


@pytest.mark.parametrize(
  ('dtype', 'tolerance'), [(np.float64, 1e-11), (np.float32, 1e-3)]
)
def test_the_masses_of_all_bytes_sum_to_one(x64, dtype, tolerance):
  pairs = np.array(list(itertools.product(MEANS, LOG_SCALES)), dtype)
  x = of_pixels(np.arange(256, dtype=dtype) / 255)

  @jax.jit
  def masses(mean, log_scale):
    return jnp.exp(
      likelihoods.logistic_log_prob(
        jnp.full_like(x, mean), jnp.full_like(x, log_scale), x
      )
    )

  every = jax.vmap(masses)(pairs[:, 0], pairs[:, 1])
  assert every.dtype == dtype
  assert (every >= 0).all()
  np.testing.assert_allclose(every.sum(axis=1), 1, rtol=tolerance)


def bins(log_scales=LOG_SCALES, means=MEANS, bytes_=range(256)):
  """All combinations of means, log-scales and bytes, and their bins' ends."""
  mean, log_scale, byte = np.array(
    list(itertools.product(means, log_scales, bytes_))
  ).T
  above = (byte / 255 + 1 / 510 - mean) / np.exp(log_scale)
  below = (byte / 255 - 1 / 510 - mean) / np.exp(log_scale)
  arguments = tuple(map(of_pixels, (mean, log_scale, byte / 255)))
  return arguments, above, below, byte


def test_a_bin_has_the_difference_of_two_sigmoids(x64):
  arguments, above, below, byte = bins()
  upper = np.where(byte == 255, 1, expit(above))
  lower = np.where(byte == 0, 0, expit(below))
  expected = upper - lower
  # Elsewhere the difference cancels.
  is_exact = expected > 1e-6
  assert 1000 < is_exact.sum() < is_exact.size
  actual = np.exp(logistic_log_prob(*arguments))
  np.testing.assert_allclose(actual[is_exact], expected[is_exact], rtol=1e-9)


def test_an_inner_bin_far_from_the_mean_has_the_mass_of_the_tail(x64):
  """By sig(a) - sig(b) = sinh((a - b)/2) / (2 cosh(a/2) cosh(b/2))."""
  arguments, above, below, _ = bins(bytes_=(1, 77, 254))

  def log_cosh(x):
    return np.logaddexp(x, -x) - np.log(2)

  expected = (
    np.log(np.sinh((above - below) / 2))
    - np.log(2)
    - log_cosh(above / 2)
    - log_cosh(below / 2)
  )
  assert expected.min() < -1e6
  np.testing.assert_allclose(logistic_log_prob(*arguments), expected, rtol=1e-9)


def test_the_edge_bins_reach_to_infinity(x64):
  arguments, above, below, byte = bins(bytes_=(0, 255))
  expected = np.where(
    byte == 0, -np.logaddexp(0, -above), -np.logaddexp(0, below)
  )
  np.testing.assert_allclose(
    logistic_log_prob(*arguments), expected, rtol=1e-12
  )


def test_single_precision_distinguishes_edge_bins_from_inner_bins():
  (mean, log_scale, x), _, _, byte = bins((-7.0,), (0.5,))
  single = [a.astype(np.float32) for a in (mean, log_scale, x)]
  actual = logistic_log_prob(*single)
  expected = np.abs(byte / 255 - 0.5) * np.exp(7)  # approximately, in the tail
  is_edge = (byte == 0) | (byte == 255)
  far = expected > 50
  # An inner bin's mass ends at its far side.
  width = np.exp(7) / 255
  np.testing.assert_allclose(
    actual[far & is_edge], -expected[far & is_edge] + width / 2, rtol=1e-4
  )
  inner = far & ~is_edge
  np.testing.assert_allclose(
    actual[inner],
    -expected[inner] + width / 2 + np.log1p(-np.exp(-width)),
    rtol=1e-4,
  )


@pytest.mark.parametrize('name', LIKELIHOODS)
def test_values_and_gradients_are_finite_at_extreme_outputs(name):
  likelihood = LIKELIHOODS[name](0.1, 1)
  extremes = (*EXTREMES, -1e6, 1e6, 100.0)
  outputs = itertools.product(extremes, repeat=likelihood.num_outputs)
  outputs = np.array(list(outputs), np.float32)
  outputs = with_outputs(*outputs.T)
  for x in (0.0, 1 / 255, 0.5, 1.0):
    if likelihood.is_binary and x not in (0, 1):
      continue
    values, gradient = value_and_gradient(
      likelihood.log_prob, outputs, np.full(outputs.shape[:-1], x, np.float32)
    )
    assert values.shape == (len(outputs),)
    assert gradient.shape == outputs.shape
    assert np.isfinite(values).all()
    assert np.isfinite(gradient).all()


def test_logistic_gradients_pull_to_the_byte_however_far():
  """Far from the mean ∂ log p / ∂ mean is ±1/scale: an exponential tail."""
  mean = np.array([-1e4, -50.0, 50.0, 1e4], np.float32)
  log_scale = of_pixels(np.full(4, -2.0, np.float32))
  x = of_pixels(np.full(4, 100 / 255, np.float32))
  gradient = jax.jit(
    jax.grad(
      lambda mean: jnp.sum(likelihoods.logistic_log_prob(mean, log_scale, x))
    )
  )(of_pixels(mean))
  np.testing.assert_allclose(
    gradient[:, 0, 0, 0], -np.sign(mean) * np.exp(2), rtol=1e-5
  )


def test_gaussian_is_the_normal_density_with_its_constant(x64):
  random = np.random.default_rng(1)
  mean, x = random.normal(size=(2, 3, 4, 5, 2))
  log_scale = random.normal(size=(3, 4, 5, 2))
  expected = stats.norm.logpdf(x, mean, np.exp(log_scale)).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(
    gaussian_log_prob(mean, log_scale, x), expected, rtol=1e-12
  )
  fixed = LIKELIHOODS['gaussian'](0.3)
  np.testing.assert_allclose(
    fixed.log_prob(mean[..., None], x),
    stats.norm.logpdf(x, mean, 0.3).sum(axis=(1, 2, 3)),
    rtol=1e-12,
  )


def test_soft_bound_has_slope_one_at_zero_and_keeps_the_bound():
  x = jnp.array([-1e30, -100.0, -1e-3, 0.0, 1e-3, 100.0, 1e30])
  bounded = likelihoods.soft_bound(x, 4.0)
  np.testing.assert_allclose(bounded, [-4, -4, -1e-3, 0, 1e-3, 4, 4], rtol=1e-6)
  assert jax.grad(likelihoods.soft_bound)(0.0, 4.0) == 1


@pytest.mark.parametrize('name', ['gaussian_learned', 'logistic'])
def test_learned_scales_are_bounded(name, x64):
  """Scales lie between e^-7 and e^1; an output of 0 gives e^-3."""
  raw = np.array([-1e6, 0.0, 1e6])
  mean, x = np.full(3, 0.4), np.full(3, 100 / 255)
  log_scale = np.array([-7.0, -3.0, 1.0])
  actual = LIKELIHOODS[name](0.1).log_prob(
    with_outputs(mean, raw), of_pixels(x)
  )
  if name == 'gaussian_learned':
    expected = stats.norm.logpdf(x, mean, np.exp(log_scale))
  else:
    ends = (x[:, None] + np.array([[-1, 1]]) / 510 - mean[:, None]) / np.exp(
      log_scale
    )[:, None]
    expected = np.log(np.diff(expit(ends), axis=1))[:, 0]
  np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize('name', LIKELIHOODS)
def test_images_to_show_are_in_the_unit_interval(name):
  likelihood = LIKELIHOODS[name](0.1, 1)
  first = np.array([-1e4, -0.5, 0.0, 0.25, 1.5, 1e4], np.float32)
  others = np.full((likelihood.num_outputs - 1, 6), 7.0, np.float32)
  mean = likelihood.mean(with_outputs(first, *others))
  expected = expit(first) if likelihood.is_binary else np.clip(first, 0, 1)
  np.testing.assert_allclose(mean[:, 0, 0, 0], expected, rtol=1e-6)


def test_the_uniform_distribution_over_bytes_has_eight_bits():
  num_values = 28 * 28 * 3
  of_bytes = num_values * np.log(256)
  assert bits_per_dim(
    of_bytes, num_values, LIKELIHOODS['logistic'](0.1)
  ) == pytest.approx(8, rel=1e-14)
  # The uniform density over [0, 1) is 1.
  for name in ('gaussian', 'gaussian_learned'):
    assert bits_per_dim(
      0.0, num_values, LIKELIHOODS[name](0.1)
    ) == pytest.approx(8, rel=1e-14)
  assert bits_per_dim(
    num_values * np.log(2), num_values, LIKELIHOODS['bernoulli'](0.1)
  ) == pytest.approx(1, rel=1e-14)


def test_a_density_over_a_byte_bounds_its_probability():
  """Bits by a Gaussian's density are at least those by the bytes' masses."""
  edges = np.arange(257) / 256
  masses = np.diff(stats.norm.cdf(edges, 0.5, 0.1))
  u = (np.arange(50) + 0.5) / 50
  x = (np.arange(256)[:, None] + u) / 256
  log_density = stats.norm.logpdf(x, 0.5, 0.1).mean(axis=1)
  likelihood = LIKELIHOODS['gaussian'](0.1)
  for byte in (10, 128, 200):
    bits = bits_per_dim(-log_density[byte], 1, likelihood)
    exact = -np.log2(masses[byte])
    assert exact - 1e-6 < bits < exact + 0.05


@pytest.mark.parametrize('name', sorted(LIKELIHOODS))
def test_samples_have_the_likelihood_that_is_computed(name):
  """Their mean and deviation, from the masses of all values."""
  likelihood = LIKELIHOODS[name](0.2)
  outputs = jnp.resize(jnp.array([0.4, -2.5]), likelihood.num_outputs)
  draws = likelihood.sample(
    jax.random.key(0),
    jnp.broadcast_to(outputs, (20_000, 1, 1, 1, len(outputs))),
  )
  assert (draws.shape, draws.dtype) == ((20_000, 1, 1, 1), outputs.dtype)
  if likelihood.is_density:
    grid = jnp.linspace(-3, 4, 7001)
    width = 1e-3
  else:
    width, grid = 1, jnp.arange(2.0) if likelihood.is_binary else None
    grid = jnp.arange(256) / 255 if grid is None else grid
  every = jnp.broadcast_to(outputs, (len(grid), 1, 1, 1, len(outputs)))
  logs = likelihood.log_prob(every, grid.reshape(-1, 1, 1, 1))
  masses = width * jnp.exp(logs)
  assert float(masses.sum()) == pytest.approx(1, abs=1e-3)
  mean = float((masses * grid).sum())
  spread = float(jnp.sqrt((masses * (grid - mean) ** 2).sum()))
  assert float(draws.mean()) == pytest.approx(mean, abs=float(0.03 * spread))
  assert float(draws.std()) == pytest.approx(spread, rel=0.03)
