"""The bounds and their gradients against quadrature, closed forms and draws."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_flax import config as vae_config
from vae_flax import inference
from vae_flax import losses
from vae_flax import nonlinear
from vae_flax import steps
from vae_flax.state import create_vae
from vae_flax.state import init_state

SHAPE = (2, 2, 1)
SIZE = 4
SCALE = 0.3  # of the likelihood
NUM_IMAGES = 3
STEP = np.int32(0)

gaussian_kl = jax.jit(losses.gaussian_kl)
importance_bound = jax.jit(losses.importance_bound)


@pytest.fixture(autouse=True)
def x64():
  """Closed forms are met to many digits."""
  with jax.enable_x64(True):
    yield


@functools.cache
def base(latent_size, hidden_sizes):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'dataset.binarise': 'none',
      'model.name': 'mlp',
      'model.hidden_sizes': hidden_sizes,
      'model.activation': 'tanh',
      'model.latent_size': latent_size,
      'likelihood': 'gaussian',
      'likelihood_scale': SCALE,
      'compute_dtype': 'float64',
    }
  )
  return create_vae(config, SHAPE)


def create(latent_size=2, hidden_sizes=(5,), **changes):
  """A small VAE in float64; without hidden layers it is linear.

  Equal arguments give equal VAEs, for which a function is compiled once.
  """
  return dataclasses.replace(base(latent_size, hidden_sizes), **changes)


def init(vae, seed=0):
  """Parameters with biases, too, and deviations below the prior's."""
  params = jax.jit(lambda: init_state(vae, jax.random.key(seed)).params)()
  random = np.random.default_rng(seed)
  params = jax.tree.map(lambda p: p + random.normal(0, 0.3, p.shape), params)
  params['encoder']['log_var']['bias'] -= 1.0
  return params


@pytest.fixture(scope='module')
def x():
  return np.random.default_rng(5).uniform(0, 1, (NUM_IMAGES, *SHAPE))


def quadrature(vae, params):
  """The VAE's decoder as the model whose integrals are known."""
  return nonlinear.NonlinearModel(
    lambda z: inference.decode(vae, params, z).reshape(*z.shape[:-1], SIZE),
    SCALE,
    vae.latent_size,
    num_points=801 if vae.latent_size == 1 else 161,
  )


def close_to_mean(draws, expected, errors=5.0):
  """Means over axis 0 within some standard errors of what they should be."""
  draws = np.asarray(draws)
  standard_error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
  gap = np.abs(draws.mean(axis=0) - expected)
  assert (gap <= errors * standard_error + 1e-9).all(), (gap, standard_error)


def flat(tree):
  return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def over_keys(function, num, seed=0):
  """A function of a key at many keys, stacked."""
  keys = jax.random.split(jax.random.key(seed), num)
  return jax.device_get(
    jax.jit(lambda keys: jax.lax.map(function, keys, batch_size=200))(keys)
  )


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
    return losses.monte_carlo_kl(z, MEAN, LOG_VAR)

  close_to_mean(over_keys(draw, 20_000), gaussian_kl(MEAN, LOG_VAR))


def test_divergence_from_draws_is_their_mean():
  z = np.random.default_rng(0).normal(size=(2, 7, 3))
  each = [losses.monte_carlo_kl(z[:, [k]], MEAN, LOG_VAR) for k in range(7)]
  np.testing.assert_allclose(
    losses.monte_carlo_kl(z, MEAN, LOG_VAR), np.mean(each, axis=0), rtol=1e-12
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


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(vae, params, x, key, step=STEP):
  return jax.value_and_grad(
    lambda params: steps.loss(vae, params, x, key, step), has_aux=True
  )(params)


def same(actual, expected, rtol=1e-12):
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(
      a, b, rtol=rtol, atol=rtol * max(1.0, np.abs(b).max())
    )


@functools.partial(jax.jit, static_argnums=0)
def draw(vae, params, x, key):
  """The divergences [B, Z], means [B, K, H, W, C] and log-weights [B, K]."""
  mean, log_var = inference.encode(vae, params, x)
  z = inference.reparameterise(key, mean, log_var, vae.num_importance_samples)
  return (
    losses.gaussian_kl(mean, log_var),
    inference.decode(vae, params, z)[..., 0],
    inference.log_weights(vae, params, x, z, mean, log_var),
  )


def test_metrics_are_the_terms_of_the_bound(x):
  vae = create(num_importance_samples=3)
  params, key = init(vae), jax.random.key(1)
  (loss, metrics), _ = value_and_gradient(vae, params, x, key)
  divergences, decoded, _ = draw(vae, params, x, key)
  divergence = divergences.sum(axis=1).mean()
  squares = ((x[:, None] - decoded) ** 2).sum(axis=(2, 3, 4)) / SCALE**2
  constant = SIZE * np.log(2 * np.pi * SCALE**2)
  reconstruction = -0.5 * (squares + constant).mean()
  assert set(metrics) == {
    'loss_nats',
    'elbo_nats',
    'reconstruction_nats',
    'kl_nats',
  }
  assert metrics['kl_nats'] == pytest.approx(divergence)
  assert metrics['reconstruction_nats'] == pytest.approx(reconstruction)
  assert metrics['elbo_nats'] == pytest.approx(reconstruction - divergence)
  assert loss == metrics['loss_nats'] == pytest.approx(-metrics['elbo_nats'])


def test_beta_weighs_the_divergence_alone(x):
  key = jax.random.key(1)
  vae = create()
  params = init(vae)
  (loss, metrics), gradient = value_and_gradient(vae, params, x, key)
  without, gradient_without = value_and_gradient(
    dataclasses.replace(vae, beta=0.0), params, x, key
  )
  (weighted, weighted_metrics), weighted_gradient = value_and_gradient(
    dataclasses.replace(vae, beta=4.0), params, x, key
  )
  assert weighted - loss == pytest.approx(3 * metrics['kl_nats'])
  assert without[0] == pytest.approx(-metrics['reconstruction_nats'])
  for name in ('elbo_nats', 'reconstruction_nats', 'kl_nats'):
    assert weighted_metrics[name] == pytest.approx(metrics[name])
  expected = jax.tree.map(
    lambda a, b: b + 4 * (a - b), gradient, gradient_without
  )
  same(weighted_gradient, expected, 1e-10)


def test_the_weight_of_the_divergence_rises_to_beta():
  steps_ = np.array([0, 1, 4, 8, 9, 10, 1000], np.int32)
  weights = [losses.kl_weight(3.0, 10, step) for step in steps_]
  np.testing.assert_allclose(
    weights, 3 * np.array([0.1, 0.2, 0.5, 0.9, 1, 1, 1]), rtol=1e-6
  )
  assert losses.kl_weight(0.5, 0, np.int32(0)) == 0.5


def test_warm_up_is_a_lower_beta(x):
  key = jax.random.key(1)
  params = init(create())
  _, whole = value_and_gradient(create(), params, x, key)
  _, none = value_and_gradient(create(beta=0.0), params, x, key)
  warming = create(beta=2.0, kl_warmup_steps=8)
  for step, beta in ((0, 0.25), (3, 1.0), (7, 2.0), (100, 2.0)):
    (loss, metrics), gradient = value_and_gradient(
      warming, params, x, key, np.int32(step)
    )
    assert loss == pytest.approx(
      beta * metrics['kl_nats'] - metrics['reconstruction_nats']
    )
    expected = jax.tree.map(
      lambda a, b, beta=beta: b + beta * (a - b), whole, none
    )
    same(gradient, expected, 1e-10)


def test_free_bits_are_of_each_latent_on_average_over_the_batch():
  per_latent = jnp.array([0.1, 0.5, 2.0])
  value, gradient = jax.value_and_grad(losses.with_free_bits)(per_latent, 0.4)
  assert value == pytest.approx(0.4 + 0.5 + 2.0)
  np.testing.assert_array_equal(gradient, [0, 1, 1])
  assert losses.with_free_bits(per_latent, 0.0) == pytest.approx(2.6)


def test_a_latent_with_bits_to_spare_feels_no_divergence(x):
  key = jax.random.key(1)
  vae = create()
  params = init(vae)
  (loss, metrics), gradient = value_and_gradient(vae, params, x, key)
  per_latent = draw(vae, params, x, key)[0].mean(axis=0)
  low, high = np.argsort(per_latent)
  assert per_latent[low] < per_latent[high]
  between = float(per_latent.mean())
  (some_loss, some_metrics), some = value_and_gradient(
    dataclasses.replace(vae, free_bits_nats=between), params, x, key
  )
  _, none = value_and_gradient(
    dataclasses.replace(vae, beta=0.0), params, x, key
  )
  same(some['decoder'], gradient['decoder'])
  for name in ('mean', 'log_var'):
    for part, values in some['encoder'][name].items():
      same(values[..., high], gradient['encoder'][name][part][..., high])
      same(values[..., low], none['encoder'][name][part][..., low])
      assert not np.allclose(
        values[..., low], gradient['encoder'][name][part][..., low]
      )
  assert some_loss - loss == pytest.approx(between - per_latent[low])
  metrics, some_metrics = (
    {name: m[name] for name in m if name != 'loss_nats'}
    for m in (metrics, some_metrics)
  )
  same(some_metrics, metrics)  # they tell the true divergence


@pytest.fixture(scope='module')
def importance():
  with jax.enable_x64(True):
    vae = create(objective='iwae', num_importance_samples=6)
    return vae, dataclasses.replace(vae, objective='dreg'), init(vae)


def test_importance_loss_of_one_draw_is_that_of_the_elbo(x):
  """As the mean of one log-weight, with its divergence drawn."""
  key = jax.random.key(1)
  plain = create(has_closed_form_kl=False)
  params = init(plain)
  bound = dataclasses.replace(plain, objective='iwae')
  (loss, _), gradient = value_and_gradient(plain, params, x, key)
  (bound_loss, metrics), bound_gradient = value_and_gradient(
    bound, params, x, key
  )
  assert bound_loss == pytest.approx(loss)
  assert metrics['iwae_nats'] == pytest.approx(metrics['elbo_nats'])
  same(bound_gradient, gradient, 1e-10)


def test_importance_metrics_are_the_terms_of_the_bound(importance, x):
  vae, _, params = importance
  key = jax.random.key(1)
  (loss, metrics), _ = value_and_gradient(vae, params, x, key)
  divergences, _, logs = draw(vae, params, x, key)
  bound = np.log(np.exp(logs).mean(axis=1)).mean()
  divergence = divergences.sum(axis=1).mean()
  assert loss == metrics['loss_nats'] == pytest.approx(-bound)
  assert metrics['iwae_nats'] == pytest.approx(bound)
  assert metrics['elbo_nats'] == pytest.approx(logs.mean())
  assert logs.mean() < bound
  assert metrics['kl_nats'] == pytest.approx(divergence)
  assert metrics['reconstruction_nats'] == pytest.approx(
    logs.mean() + divergence
  )


def test_doubly_reparameterised_has_the_value_and_the_decoders_gradient(
  importance, x
):
  iwae, dreg, params = importance
  key = jax.random.key(1)
  (_, metrics), gradient = value_and_gradient(iwae, params, x, key)
  (_, dreg_metrics), dreg_gradient = value_and_gradient(dreg, params, x, key)
  assert dreg_metrics.keys() == metrics.keys()
  same(dreg_metrics, metrics)
  same(dreg_gradient['decoder'], gradient['decoder'])
  encoders = [flat(g['encoder']) for g in (gradient, dreg_gradient)]
  assert not np.allclose(*encoders, rtol=1e-3)


def test_doubly_reparameterised_gradient_has_the_same_mean_and_less_variance(
  x,
):
  """Much less near the optimum, where its signal is about to vanish."""
  linear = LinearVAE(objective='iwae', num_importance_samples=4)
  dreg = dataclasses.replace(linear.vae, objective='dreg')
  params = linear.params_near_posterior(0.1)

  def both(key):
    return [
      flat(value_and_gradient(vae, params, x, key)[1]['encoder'])
      for vae in (linear.vae, dreg)
    ]

  plain, double = over_keys(both, 5000)
  close_to_mean(double - plain, 0)
  standard_error = double.std(axis=0) / np.sqrt(len(double))
  assert (np.abs(double.mean(axis=0)) > 10 * standard_error).any()
  assert double.var(axis=0).sum() < 0.5 * plain.var(axis=0).sum()


def test_doubly_reparameterised_gradient_is_zero_where_q_is_the_posterior(x):
  """Every draw alike: each weight is Pr(x) and has no slope in z."""
  linear = LinearVAE(objective='dreg', num_importance_samples=4)
  _, gradient = value_and_gradient(
    linear.vae, linear.params_at_posterior(), x, jax.random.key(0)
  )
  same(gradient['encoder'], jax.tree.map(jnp.zeros_like, gradient['encoder']))


def test_scale_gradient_is_the_identity_with_another_slope():
  x = jnp.arange(12.0).reshape(2, 3, 2)
  scale = jnp.arange(6.0).reshape(2, 3) - 2
  cotangent = jnp.cos(x)
  value, pull_back = jax.vjp(losses.scale_gradient, x, scale)
  np.testing.assert_array_equal(value, x)
  of_x, of_scale = pull_back(cotangent)
  np.testing.assert_array_equal(of_x, cotangent * scale[..., None])
  np.testing.assert_array_equal(of_scale, 0)


class LinearVAE:
  """A linear decoder and encoder, for which the ELBO is known.

  Columns of W are at right angles, so that the posterior is diagonal.
  """

  matrix = np.array([[0.5, 0.2], [0.5, -0.2], [-0.3, 0.4], [0.3, 0.4]])  # [D,Z]
  offset = np.array([0.2, 0.4, 0.6, 0.8])

  def __init__(self, **changes):
    self.vae = create(2, (), **changes)

  def params_at_posterior(self):
    precision = np.diag(self.matrix.T @ self.matrix) / SCALE**2 + 1
    kernel = self.matrix / SCALE**2 / precision[None]
    bound = self.vae.encoder.max_log_var  # undone, see soft_bound
    bias = bound * np.arctanh(-np.log(precision) / bound)
    params = {
      'encoder': {
        'mean': {'kernel': kernel, 'bias': -self.offset @ kernel},
        'log_var': {'kernel': np.zeros((SIZE, 2)), 'bias': bias},
      },
      'decoder': {'outputs': {'kernel': self.matrix.T, 'bias': self.offset}},
    }
    return jax.tree.map(jnp.asarray, params)

  def params_near_posterior(self, distance):
    random = np.random.default_rng(2)
    return jax.tree.map(
      lambda p: p + random.normal(0, distance, p.shape),
      self.params_at_posterior(),
    )

  def log_marginal(self, x):
    """The log of N(x; b, W Wᵀ + σ²I), [B]."""
    covariance = self.matrix @ self.matrix.T + SCALE**2 * np.eye(SIZE)
    centred = x.reshape(-1, SIZE) - self.offset
    squares = np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    log_det = np.linalg.slogdet(covariance)[1]
    return -0.5 * (squares + log_det + SIZE * np.log(2 * np.pi))

  @staticmethod
  def elbo(params, mean, log_var, x):
    """The expectation over q of UDL 17.18 in closed form, mean over x."""
    outputs = params['decoder']['outputs']
    residuals = (
      x.reshape(-1, SIZE) - mean @ outputs['kernel'] - outputs['bias'][None]
    )
    spread = jnp.exp(log_var) @ jnp.sum(outputs['kernel'] ** 2, axis=1)
    squares = (jnp.sum(residuals**2, axis=1) + spread) / SCALE**2
    reconstruction = -0.5 * (squares + SIZE * np.log(2 * np.pi * SCALE**2))
    divergence = 0.5 * jnp.sum(jnp.exp(log_var) + mean**2 - 1 - log_var, axis=1)
    return jnp.mean(reconstruction - divergence)


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


@pytest.mark.parametrize(
  'changes',
  [
    {'free_bits_nats': 0.3},
    {'has_closed_form_kl': False, 'num_importance_samples': 2},
    {'objective': 'iwae', 'num_importance_samples': 3},
    {'objective': 'dreg', 'num_importance_samples': 3},
  ],
  ids=['elbo', 'elbo, drawn', 'iwae', 'dreg'],
)
def test_a_batch_twice_over_has_the_same_loss_and_gradient(
  changes, x, monkeypatch
):
  """Images with the same noise as their copies."""

  def reparameterise(key, mean, log_var, num_samples, axis_name):
    del axis_name
    noise = jax.random.normal(
      key, (NUM_IMAGES, num_samples, mean.shape[1]), mean.dtype
    )
    noise = jnp.tile(noise, (len(mean) // NUM_IMAGES, 1, 1))
    return mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * noise

  monkeypatch.setattr(inference, 'reparameterise', reparameterise)
  vae = create(**changes)
  params, key = init(vae), jax.random.key(0)

  @jax.jit  # anew: what is compiled elsewhere has other draws
  def both(params):
    return [
      jax.value_and_grad(
        lambda params, x=x: steps.loss(vae, params, x, key, STEP), has_aux=True
      )(params)
      for x in (x, jnp.concatenate([x, x]))
    ]

  same(*both(params))


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
