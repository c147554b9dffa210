"""Quadrature against closed forms: the linear-Gaussian model and the book."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_flax import nonlinear
from vae_flax.nonlinear import BOOK_MODEL
from vae_flax.nonlinear import NonlinearModel

# Compiled whole: to compile their operations one by one takes far longer.
log_marginal = jax.jit(nonlinear.log_marginal, static_argnums=0)
posterior = jax.jit(nonlinear.posterior, static_argnums=0)
posterior_moments = jax.jit(nonlinear.posterior_moments, static_argnums=0)
elbo = jax.jit(nonlinear.elbo, static_argnums=0)
kl_to_posterior = jax.jit(nonlinear.kl_to_posterior, static_argnums=0)


@dataclasses.dataclass(frozen=True)
class Linear:
  """f[z] = W z + b, for which everything is Gaussian and known."""

  matrix: np.ndarray  # W [D, Z]
  offset: np.ndarray  # b [D]
  deviation: float

  @functools.cached_property
  def model(self):
    def decode(z):
      return (
        z @ self.matrix.T.astype(z.dtype) + self.offset.astype(z.dtype)[None]
      )

    return NonlinearModel(decode, self.deviation, self.matrix.shape[1])

  def log_marginal(self, x):
    """The log of N(x; b, W Wᵀ + σ²I), [B]."""
    size = len(self.offset)
    covariance = self.matrix @ self.matrix.T + self.deviation**2 * np.eye(size)
    centred = x - self.offset
    squares = np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    log_det = np.linalg.slogdet(covariance)[1]
    return -0.5 * (squares + log_det + size * np.log(2 * np.pi))

  def posterior(self, x):
    """Means [B, Z] and the one covariance [Z, Z] of Pr(z|x)."""
    precision = self.matrix.T @ self.matrix / self.deviation**2 + np.eye(
      self.matrix.shape[1]
    )
    covariance = np.linalg.inv(precision)
    means = (x - self.offset) @ self.matrix @ covariance / self.deviation**2
    return means, covariance

  def kl_to_posterior(self, x, mean, log_var):
    """KL between two Gaussians, the first diagonal, [B]."""
    means, covariance = self.posterior(x)
    precision = np.linalg.inv(covariance)
    shifts = means - mean
    return 0.5 * (
      np.exp(log_var) @ np.diag(precision)
      + np.sum(shifts @ precision * shifts, axis=1)
      - mean.shape[1]
      + np.linalg.slogdet(covariance)[1]
      - log_var.sum(axis=1)
    )


LINEAR = {
  'one latent': Linear(
    np.array([[1.5], [-0.5]]), np.array([0.3, -1.0]), deviation=0.5
  ),
  'one latent, sharp': Linear(
    np.array([[2.0], [1.0]]), np.array([0.0, 0.5]), deviation=0.03
  ),
  'two latents': Linear(
    np.array([[1.0, 0.4], [-0.3, 0.8], [0.2, 0.5]]),
    np.array([0.1, -0.2, 0.3]),
    deviation=0.4,
  ),
}
BOOK_X = np.array([[0.9, -0.9], [0.25, 0.95], [1.3, 0.2], [3.0, -2.0]])


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


@pytest.fixture(params=LINEAR.values(), ids=LINEAR.keys())
def linear(request):
  return request.param


@pytest.fixture
def x(linear):
  """Three draws of the model, [3, D]."""
  size, latent_size = linear.matrix.shape
  random = np.random.default_rng(3)
  decoded = random.normal(size=(3, latent_size)) @ linear.matrix.T
  noise = linear.deviation * random.normal(size=(3, size))
  return decoded + linear.offset + noise


def test_grid_integrates_a_gaussian(x64):
  for model in (BOOK_MODEL, LINEAR['two latents'].model):
    points, weights = map(np.asarray, nonlinear.grid(model))
    assert points.shape == (len(weights), model.latent_size)
    squares = np.sum(points**2, axis=1)
    density = np.exp(-0.5 * squares) / (2 * np.pi) ** (model.latent_size / 2)
    assert np.sum(weights * density) == pytest.approx(1, rel=1e-13)
    second = np.sum((weights * density)[:, None] * points**2, axis=0)
    np.testing.assert_allclose(second, 1, rtol=1e-12)


def test_marginal_of_a_linear_model_is_its_gaussian(x64, linear, x):
  np.testing.assert_allclose(
    log_marginal(linear.model, x), linear.log_marginal(x), rtol=1e-8
  )


def test_posterior_of_a_linear_model_is_its_gaussian(x64, linear, x):
  (points, weights), densities = posterior(linear.model, x)
  means, covariance = linear.posterior(x)
  shifts = points[None] - means[:, None]
  squares = np.sum(shifts @ np.linalg.inv(covariance) * shifts, axis=-1)
  expected = np.exp(-0.5 * squares) / np.sqrt(
    np.linalg.det(2 * np.pi * covariance)
  )
  np.testing.assert_allclose(densities, expected, rtol=1e-6, atol=1e-12)
  np.testing.assert_allclose(densities @ weights, 1, rtol=1e-12)
  actual_means, variances = posterior_moments(linear.model, x)
  np.testing.assert_allclose(actual_means, means, rtol=1e-8)
  np.testing.assert_allclose(
    variances, np.tile(np.diag(covariance), (3, 1)), rtol=1e-7
  )


def test_divergence_to_a_linear_models_posterior(x64, linear, x):
  random = np.random.default_rng(4)
  means, covariance = linear.posterior(x)
  mean = means + random.normal(0, 0.3, means.shape)
  log_var = np.log(np.diag(covariance)) + random.normal(0, 0.5, means.shape)
  np.testing.assert_allclose(
    kl_to_posterior(linear.model, x, mean, log_var),
    linear.kl_to_posterior(x, mean, log_var),
    rtol=1e-7,
  )


@pytest.mark.parametrize(
  'linear',
  [
    LINEAR['one latent'],
    LINEAR['one latent, sharp'],
    # Columns at right angles: the posterior is a diagonal Gaussian.
    Linear(np.array([[1.0, 0.5], [-0.5, 1.0]]), np.zeros(2), deviation=0.4),
  ],
  ids=['one latent', 'one latent, sharp', 'two latents'],
)
def test_divergence_is_zero_where_q_is_the_posterior(x64, linear, x):
  means, covariance = linear.posterior(x)
  log_vars = np.tile(np.log(np.diag(covariance)), (3, 1))
  divergence = kl_to_posterior(linear.model, x, means, log_vars)
  np.testing.assert_allclose(divergence, 0, atol=1e-8)


def test_single_precision_is_good_to_a_few_parts_in_a_hundred_thousand():
  linear = LINEAR['one latent']
  x = np.array([[0.5, -1.5], [2.0, -1.0], [-3.0, 0.0]])
  q = np.zeros((3, 1)), np.full((3, 1), -1.0)
  single = [a.astype(np.float32) for a in (x, *q)]
  marginal = log_marginal(linear.model, single[0])
  assert marginal.dtype == np.float32
  close = dict(rtol=1e-5, atol=3e-5)
  np.testing.assert_allclose(marginal, linear.log_marginal(x), **close)
  np.testing.assert_allclose(
    kl_to_posterior(linear.model, *single),
    linear.kl_to_posterior(x, *q),
    **close,
  )


def test_marginal_of_the_book_notebook(x64):
  """UDL's notebook 17.1, whose sum goes over z in [-3, 3) alone."""
  x = np.array([[0.9, -0.9]])
  z = np.arange(-3, 3, 0.01)
  mean = np.stack([0.5 * np.exp(np.sin(2 + 3.675 * z)), np.cos(2 + 2.85 * z)])
  squares = np.sum((x.T - mean) ** 2, axis=0) / 0.04
  joint = np.exp(-0.5 * (squares + z**2)) / (2 * np.pi) ** 1.5 / 0.04
  notebook = dataclasses.replace(BOOK_MODEL, num_points=601, limit=3.0)
  marginal = np.exp(log_marginal(notebook, x)[0])
  assert marginal == pytest.approx(0.01 * np.sum(joint), rel=5e-5)
  assert marginal == pytest.approx(0.29599, abs=1e-5)
  wide = np.exp(log_marginal(BOOK_MODEL, x)[0])
  assert wide == pytest.approx(0.29621, abs=5e-6)


def test_finer_grids_change_nothing(x64):
  finer = dataclasses.replace(BOOK_MODEL, num_points=3201, limit=9.0)
  np.testing.assert_allclose(
    log_marginal(BOOK_MODEL, BOOK_X),
    log_marginal(finer, BOOK_X),
    rtol=1e-12,
  )


def test_marginal_integrates_to_one():
  axis = np.linspace(-1.4, 2.9, 51, dtype=np.float32)
  other = np.linspace(-2.2, 2.2, 51, dtype=np.float32)
  x = np.stack(np.meshgrid(axis, other), axis=-1).reshape(-1, 2)
  area = (axis[1] - axis[0]) * (other[1] - other[0])
  model = dataclasses.replace(BOOK_MODEL, num_points=401)
  total = area * np.sum(np.exp(log_marginal(model, x)))
  assert total == pytest.approx(1, rel=1e-5)


def test_samples_agree_with_the_marginal():
  num, bins, fine = 20_000, 8, 5
  model = dataclasses.replace(BOOK_MODEL, num_points=401)
  z, x = nonlinear.sample(model, jax.random.key(0), num)
  assert z.shape == (num, 1)
  assert np.mean(z) == pytest.approx(0, abs=5 / np.sqrt(num))
  assert np.var(z) == pytest.approx(1, rel=0.05)
  noise = np.asarray(x - model.decode(z))
  np.testing.assert_allclose(noise.std(axis=0), model.deviation, rtol=0.03)

  low, high = np.array([-0.4, -1.6]), np.array([2.0, 1.6])
  counts, _ = np.histogramdd(
    np.asarray(x), bins, list(zip(low, high, strict=True))
  )
  # The middles of fine cells, of which each bin has fine².
  shares = (np.arange(bins * fine) + 0.5) / (bins * fine)
  middles = [a + (b - a) * shares for a, b in zip(low, high, strict=True)]
  cells = np.stack(np.meshgrid(*middles, indexing='ij'), axis=-1)
  densities = np.exp(
    log_marginal(model, cells.reshape(-1, 2).astype(np.float32))
  )
  area = np.prod((high - low) / (bins * fine))
  expected = num * area * densities.reshape(bins, fine, bins, fine)
  expected = expected.sum(axis=(1, 3))
  assert expected.sum() == pytest.approx(num, rel=0.01)
  used = expected > 5
  squares = np.sum((counts - expected)[used] ** 2 / expected[used])
  degrees = np.sum(used)
  assert degrees > 40
  assert squares < degrees + 5 * np.sqrt(2 * degrees)  # a chi-square


def test_score_points_to_where_the_decoder_is_expected(x64):
  """∂ log Pr(x)/∂x = (E[f[z]|x] - x) / σ², the posterior's work."""
  gradient = jax.grad(lambda x: jnp.sum(log_marginal(BOOK_MODEL, x)))
  (points, weights), densities = posterior(BOOK_MODEL, BOOK_X)
  expected = (densities * weights[None]) @ BOOK_MODEL.decode(points)
  np.testing.assert_allclose(
    gradient(BOOK_X), (expected - BOOK_X) / 0.2**2, rtol=1e-9
  )


def test_bound_is_reconstruction_less_divergence_from_the_prior(x64):
  """UDL 17.18 and 17.24, the expectation by NumPy."""
  mean = np.array([[0.2], [-0.5], [1.0], [3.0]])
  log_var = np.log(np.array([[0.1], [0.5], [1.0], [0.01]]) ** 2)
  nodes = np.linspace(-10, 10, 5_001)
  weights = np.exp(-0.5 * nodes**2)
  z = mean + np.exp(0.5 * log_var) * nodes  # [B, P]
  decoded = np.asarray(BOOK_MODEL.decode(z[..., None]))
  squares = np.sum((BOOK_X[:, None] - decoded) ** 2, axis=-1) / 0.04
  log_likelihood = -0.5 * squares - np.log(2 * np.pi * 0.04)
  reconstruction = log_likelihood @ weights / np.sum(weights)
  divergence = 0.5 * np.sum(np.exp(log_var) + mean**2 - 1 - log_var, axis=1)
  np.testing.assert_allclose(
    elbo(BOOK_MODEL, BOOK_X, mean, log_var),
    reconstruction - divergence,
    rtol=1e-10,
  )


def test_divergence_is_the_integral_over_the_posterior(x64):
  """UDL 17.17, on the grid of the posterior itself."""
  mean = np.array([[0.2], [-0.5], [0.0], [0.3]])
  log_var = np.log(np.array([[0.1], [0.3], [0.2], [0.5]]) ** 2)
  (points, weights), densities = posterior(BOOK_MODEL, BOOK_X)
  squares = (points[None, :, 0] - mean) ** 2 / np.exp(log_var)
  log_q = -0.5 * (squares + log_var + np.log(2 * np.pi))
  q = np.where(squares < 1_000, np.exp(log_q), 0)
  ratio = np.where(q > 0, log_q - np.log(np.maximum(densities, 1e-300)), 0)
  divergence = kl_to_posterior(BOOK_MODEL, BOOK_X, mean, log_var)
  np.testing.assert_allclose(divergence, (q * ratio) @ weights, rtol=1e-6)
  assert (divergence > 0).all()


@pytest.mark.parametrize('scale', [1e2, 1e4, 1e8])
def test_far_away_values_and_gradients_are_finite(scale):
  x = scale * jnp.array([[1.0, -1.0], [-1.0, 0.0]])

  def total(x):
    return jnp.sum(nonlinear.log_marginal(BOOK_MODEL, x))

  value, gradient = jax.jit(jax.value_and_grad(total))(x)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()
  (_, weights), densities = posterior(BOOK_MODEL, x)
  np.testing.assert_allclose(densities @ weights, 1, rtol=1e-4)
  q = jnp.zeros((2, 1))
  assert np.isfinite(kl_to_posterior(BOOK_MODEL, x, q, q)).all()


def test_likelihood_can_be_climbed_in_the_models_parameters(x64):
  """The slope in slope and deviation is that of the closed form."""
  x = np.array([[0.5], [-1.0], [2.0]])

  def by_quadrature(slope, deviation):
    model = NonlinearModel(lambda z: slope * z, deviation, latent_size=1)
    return jnp.sum(nonlinear.log_marginal(model, x))

  def in_closed_form(slope, deviation):
    variance = slope**2 + deviation**2
    return -0.5 * jnp.sum(x**2 / variance + jnp.log(2 * jnp.pi * variance))

  np.testing.assert_allclose(
    *(
      jax.jit(jax.grad(f, (0, 1)))(jnp.array(1.3), jnp.array(0.4))
      for f in (by_quadrature, in_closed_form)
    ),
    rtol=1e-10,
  )


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('latent_size', 3),
    ('latent_size', 0),
    ('deviation', 0.0),
    ('deviation', -1.0),
    ('deviation', np.nan),
    ('num_points', 1),
    ('limit', 0.0),
  ],
)
def test_impossible_models_are_refused(field, value):
  replace = functools.partial(dataclasses.replace, BOOK_MODEL)
  with pytest.raises(ValueError, match=field):
    replace(**{field: value})
