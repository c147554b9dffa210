"""The bound and its gradient against quadrature, closed forms and draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from small_vae import close_to_mean
from small_vae import create
from small_vae import flat
from small_vae import init
from small_vae import LinearVAE
from small_vae import NUM_IMAGES
from small_vae import over_keys
from small_vae import quadrature
from small_vae import SHAPE
from small_vae import SIZE
from small_vae import STEP
from small_vae import value_and_gradient

from vae_flax import inference
from vae_flax import losses
from vae_flax import nonlinear
from vae_flax import steps

gaussian_kl = jax.jit(losses.gaussian_kl)
importance_bound = jax.jit(losses.importance_bound)


@pytest.fixture(autouse=True)
def x64():
  """Closed forms are met to many digits."""
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope='module')
def x():
  return np.random.default_rng(5).uniform(0, 1, (NUM_IMAGES, *SHAPE))


def test_total_correlation_is_the_dependence_of_a_mixture():
  random = np.random.default_rng(0)
  mean, log_var = random.normal(0, 1, (7, 3)), random.normal(-1, 0.5, (7, 3))
  z = mean[:4] + np.exp(0.5 * log_var[:4]) * random.normal(size=(4, 3))
  densities = stats.norm.pdf(z[:, None], mean, np.exp(0.5 * log_var))
  joint = densities.prod(axis=2).mean(axis=1)
  marginals = densities.mean(axis=1).prod(axis=1)
  expected = np.mean(np.log(joint) - np.log(marginals))
  found = losses.total_correlation(z, mean, log_var)
  np.testing.assert_allclose(found, expected, rtol=1e-10)
  # Equal posteriors are a product, whose latents do not depend on each other.
  same = losses.total_correlation(
    z, *(np.tile(y[:1], (7, 1)) for y in (mean, log_var))
  )
  np.testing.assert_allclose(same, 0, atol=1e-12)


def test_total_correlation_adds_to_the_loss(x):
  plain = create()
  params, key = init(plain), jax.random.key(0)
  weighted = create(total_correlation_weight=3.0)
  loss, metrics = steps.loss(weighted, params, x, key, STEP)
  expected, others = steps.loss(plain, params, x, key, STEP)
  correlation = metrics.pop('total_correlation_nats')
  np.testing.assert_allclose(loss, expected + 3 * correlation, rtol=1e-10)
  assert metrics.keys() == others.keys()
  assert metrics['elbo_nats'] == others['elbo_nats']


MEAN = np.array([[0.0, 1.5, -3.0], [0.2, -0.01, 10.0]])
LOG_VAR = np.array([[0.0, -2.0, 1.0], [-8.0, 0.3, 2.0]])


def test_divergence_is_that_of_two_gaussians():
  """UDL 17.24: half of trace, squared mean and log-determinant."""
  expected = 0.5 * (
    np.exp(LOG_VAR).sum(1) + (MEAN**2).sum(1) - 3 - LOG_VAR.sum(1)
  )
  per_latent = gaussian_kl(MEAN, LOG_VAR)
  assert per_latent.shape == MEAN.shape
  np.testing.assert_allclose(per_latent.sum(axis=1), expected, rtol=1e-14)


def test_divergence_is_zero_at_the_prior_and_above_elsewhere():
  random = np.random.default_rng(0)
  mean, log_var = random.normal(0, 2, (2, 1000, 4))
  assert (gaussian_kl(mean, log_var) > 0).all()
  zeros = np.zeros((1, 4))
  gradients = jax.grad(
    lambda mean, log_var: jnp.sum(losses.gaussian_kl(mean, log_var)), (0, 1)
  )(zeros, zeros)
  np.testing.assert_array_equal(gaussian_kl(zeros, zeros), 0)
  np.testing.assert_array_equal(gradients, 0)


def test_divergence_from_draws_has_the_closed_form_as_its_mean():
  def draw(key):
    z = inference.reparameterise(key, MEAN, LOG_VAR, 1)
    return losses.monte_carlo_kl(z, MEAN[:, None], LOG_VAR[:, None])

  close_to_mean(over_keys(draw, 20_000), gaussian_kl(MEAN, LOG_VAR))


def test_divergence_from_draws_is_their_mean():
  z = np.random.default_rng(0).normal(size=(2, 7, 3))
  each = [
    losses.monte_carlo_kl(z[:, [k]], MEAN[:, None], LOG_VAR[:, None])
    for k in range(7)
  ]
  np.testing.assert_allclose(
    losses.monte_carlo_kl(z, MEAN[:, None], LOG_VAR[:, None]),
    np.mean(each, axis=0),
    rtol=1e-12,
  )


@pytest.mark.parametrize('latent_size', [1, 2])
def test_elbo_is_below_log_probability_by_the_divergence(latent_size, x):
  """UDL 17.17; all three are integrals over z, each taken by itself."""
  vae = create(latent_size)
  params = init(vae)
  model = quadrature(vae, params)

  @jax.jit
  def integrals(params):
    mean, log_var = inference.encode(vae, params, x)
    rows = x.reshape(NUM_IMAGES, SIZE)
    marginal = nonlinear.log_marginal(model, rows)
    (points, weights), posterior = nonlinear.posterior(model, rows)
    points = jnp.broadcast_to(points[None], (NUM_IMAGES, *points.shape))
    log_q = jnp.sum(
      losses.log_normal(points, mean[:, None], log_var[:, None]), axis=2
    )
    q = jnp.exp(log_q) * weights[None]
    log_ratio = log_q - jnp.log(jnp.maximum(posterior, 1e-300))
    log_weights = inference.log_weights(vae, params, x, points, mean, log_var)
    return (
      marginal,
      jnp.sum(q * log_ratio, axis=1),
      jnp.sum(q * log_weights, axis=1),
      jnp.sum(q, axis=1),
    )

  marginal, divergence, elbo, total = map(np.asarray, integrals(params))
  np.testing.assert_allclose(total, 1, rtol=1e-9)
  assert (divergence > 0.05).all()
  assert (elbo < marginal).all()
  np.testing.assert_allclose(elbo, marginal - divergence, rtol=1e-7)

  # What training minimises has that mean.
  draws = over_keys(lambda key: -steps.loss(vae, params, x, key, STEP)[0], 4000)
  close_to_mean(draws, elbo.mean())


def test_expected_log_weight_is_reconstruction_less_divergence(x):
  """UDL 17.18 for the mean over draws of UDL 17.15."""
  vae = create()
  params = init(vae)
  mean, log_var = inference.encode(vae, params, x)
  divergence = gaussian_kl(mean, log_var).sum(axis=1)

  def gap(key):
    z = inference.reparameterise(key, mean, log_var)
    weights = inference.log_weights(vae, params, x, z, mean, log_var)
    reconstruction = inference.reconstruction(vae, params, x, z)
    return (weights - reconstruction)[:, 0] + divergence

  close_to_mean(over_keys(gap, 5000), 0)


@pytest.fixture(scope='module')
def many_log_weights(x):
  """2^16 log-weights of each image and its log Pr(x), by quadrature."""
  with jax.enable_x64(True):
    vae = create(1)
    params = init(vae)

    @jax.jit
    def draw(key):
      mean, log_var = inference.encode(vae, params, x)
      z = inference.reparameterise(key, mean, log_var, 2**16)
      return inference.log_weights(vae, params, x, z, mean, log_var)

    marginal = jax.jit(nonlinear.log_marginal, static_argnums=0)(
      quadrature(vae, params), x.reshape(NUM_IMAGES, SIZE)
    )
    return np.asarray(draw(jax.random.key(0))), np.asarray(marginal)


def test_importance_bound_rises_with_its_draws_to_log_probability(
  many_log_weights,
):
  log_weights, marginal = many_log_weights
  averages, errors = [], []
  for num in (1, 2, 8, 64, 1024, 8192):
    groups = log_weights.reshape(-1, num)
    bounds = importance_bound(groups).reshape(NUM_IMAGES, -1)
    averages.append(bounds.mean(axis=1))
    errors.append(bounds.std(axis=1) / np.sqrt(bounds.shape[1]))
  averages, errors = np.stack(averages), np.stack(errors)
  # By Jensen's inequality so for any draws, if the same ones are grouped.
  assert (np.diff(averages, axis=0) > 0).all()
  np.testing.assert_allclose(averages[0], log_weights.mean(axis=1))
  assert (averages[:3] + 5 * errors[:3] < marginal[None]).all()
  np.testing.assert_allclose(averages[-1], marginal, atol=0.05)


def test_importance_bound_of_one_draw_is_its_log_weight():
  log_weights = np.random.default_rng(0).normal(-90, 10, (5, 1))
  np.testing.assert_array_equal(
    importance_bound(log_weights), log_weights[:, 0]
  )


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
def test_importance_bound_does_not_underflow(dtype):
  log_weights = np.array([[-90, -95, -104], [-9e4, -9e4, -9e4]], dtype)
  bounds = importance_bound(log_weights)
  np.testing.assert_allclose(bounds, [-91.0918973, -9e4], rtol=1e-6)


def test_objective_with_drawn_divergence_has_the_same_mean_and_gradient(x):
  # A latent that tells next to nothing has a divergence whose estimate is
  # below zero every other time.
  closed, drawn = create(), create(has_closed_form_kl=False)
  params = init(closed)
  encoder = params['encoder']
  kernels = [encoder[name]['kernel'] for name in ('mean', 'log_var')]
  for name, kernel in zip(('mean', 'log_var'), kernels, strict=True):
    encoder[name]['kernel'] = kernel * np.array([[1.0, 0.0]])
  encoder['mean']['bias'] = jnp.array([0.3, 0.02])
  encoder['log_var']['bias'] = jnp.array([-1.0, 0.01])

  def difference(key):
    one, other = (
      flat(
        jax.value_and_grad(
          lambda params, vae=vae: steps.loss(vae, params, x, key, STEP)[0]
        )(params)
      )
      for vae in (closed, drawn)
    )
    return other - one

  close_to_mean(over_keys(difference, 4000), 0)


def test_linear_model_at_its_posterior_reaches_log_probability(x):
  linear = LinearVAE(objective='iwae', num_importance_samples=4)
  params = linear.params_at_posterior()
  expected = linear.log_marginal(x).mean()
  (_, metrics), _ = value_and_gradient(linear.vae, params, x, jax.random.key(0))
  assert metrics['iwae_nats'] == pytest.approx(expected, rel=1e-12)
  assert metrics['elbo_nats'] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize('has_closed_form_kl', [True, False])
def test_reparameterised_gradient_has_that_of_the_closed_form_as_its_mean(
  has_closed_form_kl, x
):
  """UDL 17.25, away from the optimum, in encoder and decoder."""
  linear = LinearVAE(has_closed_form_kl=has_closed_form_kl)
  params = linear.params_near_posterior(0.2)

  def negative_elbo(params):
    mean, log_var = inference.encode(linear.vae, params, x)
    return -linear.elbo(params, mean, log_var, x)

  expected = flat(jax.value_and_grad(negative_elbo)(params))

  def draw(key):
    (loss, _), gradient = value_and_gradient(linear.vae, params, x, key)
    return flat((loss, gradient))

  close_to_mean(over_keys(draw, 4000), expected)


def test_draws_have_the_posteriors_mean_and_variance():
  def draw(key):
    return inference.reparameterise(key, MEAN, LOG_VAR, 2)

  z = over_keys(draw, 10_000)  # [num, B, K, Z]
  assert z.shape == (10_000, 2, 2, 3)
  noise = (z - MEAN[:, None]) / np.exp(0.5 * LOG_VAR)[:, None]
  close_to_mean(noise, 0)
  close_to_mean(noise**2, 1)
  rows = noise.reshape(len(noise), -1)
  correlation = np.corrcoef(rows.T) - np.eye(rows.shape[1])
  assert np.abs(correlation).max() < 5 / np.sqrt(len(rows))


def test_a_drawn_latent_moves_with_its_posterior():
  """∂z/∂mean is 1 and ∂z/∂log_var is half of z - mean."""
  key = jax.random.key(0)
  z, pull_back = jax.vjp(
    lambda mean, log_var: inference.reparameterise(key, mean, log_var, 4),
    MEAN,
    LOG_VAR,
  )
  of_mean, of_log_var = pull_back(jnp.ones_like(z))
  np.testing.assert_allclose(of_mean, 4)
  np.testing.assert_allclose(
    of_log_var, 0.5 * np.sum(z - MEAN[:, None], axis=1), rtol=1e-12
  )
