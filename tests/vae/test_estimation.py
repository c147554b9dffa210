"""Estimates of log Pr(x) against quadrature, closed forms and by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_flax import config as vae_config
from vae_flax import estimation
from vae_flax import inference
from vae_flax import nonlinear
from vae_flax.state import init_state
from vae_flax.vae import create_vae

SHAPE = (2, 2, 1)
SIZE = 4
SCALE = 0.4  # of the likelihood
NUM_IMAGES = 6

encode = jax.jit(inference.encode, static_argnums=0)


def create(latent_size=1, hidden_sizes=(5,)):
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
    }
  )
  return create_vae(config, SHAPE)


@pytest.fixture(scope='module')
def vae():
  return create()


@pytest.fixture(scope='module')
def params(vae):
  """With biases, too, and a posterior wider than the true one."""
  params = jax.jit(lambda: init_state(vae, jax.random.key(0)).params)()
  random = np.random.default_rng(0)
  params = jax.tree.map(
    lambda p: p + random.normal(0, 0.3, p.shape).astype(p.dtype), params
  )
  params['decoder']['outputs']['kernel'] *= 1.5
  return params


@pytest.fixture(scope='module')
def x():
  random = np.random.default_rng(5)
  return random.uniform(0, 1, (NUM_IMAGES, *SHAPE)).astype(np.float32)


@pytest.fixture(scope='module')
def posterior(vae, params, x):
  return encode(vae, params, x)


@pytest.fixture(scope='module')
def keys():
  return jax.random.split(jax.random.key(3), NUM_IMAGES)


@pytest.fixture(scope='module')
def log_marginal(vae, params, x):
  """The log Pr(x) by quadrature, float64 [N]."""
  with jax.enable_x64(True):
    exact = dataclasses.replace(
      vae,
      decoder=vae.decoder.clone(dtype=jnp.float64, param_dtype=jnp.float64),
    )
    model = nonlinear.NonlinearModel(
      lambda z: inference.decode(exact, params, z).reshape(-1, SIZE), SCALE, 1
    )
    return np.asarray(
      jax.jit(functools.partial(nonlinear.log_marginal, model))(
        x.reshape(-1, SIZE).astype(np.float64)
      )
    )


@pytest.fixture(scope='module')
def over_seeds(vae, params, x, posterior):
  """Estimates of 150 draws each, from 120 seeds: fields [120, N]."""
  estimates = [
    estimation.estimate(
      vae,
      params,
      x,
      posterior,
      jax.random.split(jax.random.key(seed), NUM_IMAGES),
      150,
    )
    for seed in range(120)
  ]
  return estimation.Estimates(*map(np.stack, zip(*estimates, strict=True)))


def test_estimate_agrees_with_quadrature_within_its_own_error(
  over_seeds, log_marginal
):
  gap = over_seeds.log_prob - log_marginal[None]
  assert (over_seeds.standard_error > 0).all()
  # Its own error is itself an estimate; 4 of them are rarely exceeded.
  beyond = np.abs(gap) > 4 * over_seeds.standard_error
  assert beyond.mean() < 0.003
  # Below log Pr(x) by about half the relative variance, over the seeds.
  bias = gap.mean(axis=0)
  error = gap.std(axis=0) / np.sqrt(len(gap))
  expected = -0.5 * (over_seeds.standard_error**2).mean(axis=0)
  assert (np.abs(bias - expected) < 4 * error + 1e-5).all()


def test_reported_error_is_the_spread_over_seeds(over_seeds):
  spread = over_seeds.log_prob.std(axis=0, ddof=1)
  reported = np.sqrt((over_seeds.standard_error**2).mean(axis=0))
  np.testing.assert_allclose(reported, spread, rtol=0.3)


def test_what_a_tenth_of_the_draws_lacks_tells_the_bias(
  over_seeds, log_marginal
):
  """The rise to all draws is about nine times the bias that is left."""
  rise = over_seeds.log_prob - over_seeds.log_prob_of_tenth
  gap = log_marginal[None] - over_seeds.log_prob
  mean_rise, left = rise.mean(), gap.mean()
  error = (rise / 9 - gap).mean(axis=1).std() / np.sqrt(len(rise))
  assert mean_rise > 0
  assert abs(mean_rise / 9 - left) < 4 * error + 0.2 * left


def test_effective_samples_tell_the_error(over_seeds):
  """From 1 to K; 1/ESS - 1/K is the relative variance of the mean weight."""
  effective = over_seeds.effective_samples
  assert (effective >= 1).all()
  assert (effective < 150).all()
  variance = (1 / effective - 1 / 150) * 150 / 149
  np.testing.assert_allclose(
    np.sqrt(variance), over_seeds.standard_error, rtol=1e-6
  )


def test_elbo_is_below_the_estimate_and_right_in_the_mean(
  over_seeds, vae, params, x, posterior
):
  assert (over_seeds.elbo < over_seeds.log_prob).all()
  mean, log_var = posterior
  nodes = np.linspace(-8, 8, 801, dtype=np.float32)
  shares = np.exp(-0.5 * nodes**2) / np.exp(-0.5 * nodes**2).sum()
  z = mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * nodes[None, :, None]
  logs = jax.jit(inference.log_weights, static_argnums=0)(
    vae, params, x, z, mean, log_var
  )
  error = over_seeds.elbo.std(axis=0) / np.sqrt(len(over_seeds.elbo))
  gap = np.abs(over_seeds.elbo.mean(axis=0) - logs @ shares)
  assert (gap < 4.5 * error).all()


def log_weights_by_hand(vae, params, x, posterior, keys, num):
  """All weights [N, num], drawn image by image and chunk by chunk."""
  noise = jnp.stack(
    [
      jnp.concatenate(
        [
          jax.random.normal(jax.random.fold_in(key, chunk), (50, 1))
          for chunk in range(-(-num // 50))
        ]
      )[:num]
      for key in keys
    ]
  )
  mean, log_var = posterior
  z = mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * noise
  return np.asarray(
    inference.log_weights(vae, params, x, z, mean, log_var), np.float64
  )


@pytest.mark.parametrize('num', [1, 50, 70, 610])
def test_estimate_is_of_so_many_draws(vae, params, x, posterior, keys, num):
  estimates = estimation.estimate(vae, params, x, posterior, keys, num)
  logs = log_weights_by_hand(vae, params, x, posterior, keys, num)
  weights = np.exp(logs)
  mean = weights.mean(axis=1)
  tenth = weights[:, : max(1, num // 10)]
  # Of a single draw nothing tells how far it may be off.
  unknown = np.full(NUM_IMAGES, np.nan)
  variance = weights.var(axis=1, ddof=1) if num > 1 else unknown
  expected = {
    'log_prob': np.log(mean),
    'log_prob_of_tenth': np.log(tenth.mean(axis=1)),
    'standard_error': np.sqrt(variance / num) / mean,
    'effective_samples': weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1),
    'elbo': logs.mean(axis=1),
  }
  for name, value in expected.items():
    actual = getattr(estimates, name)
    assert (actual.shape, actual.dtype) == ((NUM_IMAGES,), np.float64)
    np.testing.assert_allclose(actual, value, rtol=1e-4, atol=1e-5)


def test_an_images_estimate_depends_on_its_key_alone(
  vae, params, x, posterior, keys
):
  def estimate(rows):
    rows = np.array(rows)
    return estimation.estimate(
      vae,
      params,
      x[rows],
      jax.tree.map(lambda a: a[rows], posterior),
      keys[rows],
      70,
    )

  whole = estimate([0, 1, 2, 3, 4, 5])
  for rows in ([5, 4, 3, 2, 1, 0], [2, 2, 2, 2, 2, 0]):
    part = estimate(rows)
    for name in whole._fields:
      np.testing.assert_allclose(
        getattr(part, name), getattr(whole, name)[rows], rtol=1e-5, atol=1e-6
      )
  again = estimate([0, 1, 2, 3, 4, 5])
  for name in whole._fields:
    np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
  # Equal images with other keys draw by themselves.
  others = estimation.estimate(
    vae,
    params,
    np.tile(x[:1], (NUM_IMAGES, 1, 1, 1)),
    jax.tree.map(lambda a: jnp.tile(a[:1], (NUM_IMAGES, 1)), posterior),
    keys,
    70,
  )
  assert len(set(others.log_prob)) == NUM_IMAGES


def test_chunks_are_drawn_by_themselves(vae, params, x, posterior, keys):
  """Draws of the second chunk are none of the first."""
  estimate = functools.partial(
    estimation.estimate, vae, params, x, posterior, keys
  )
  one, two = estimate(50), estimate(100)
  assert (two.log_prob != one.log_prob).all()
  assert (two.effective_samples > 1.3 * one.effective_samples).any()
  second = 2 * np.exp(two.log_prob) - np.exp(one.log_prob)
  assert not np.allclose(np.log(second), one.log_prob, atol=1e-3)


@pytest.mark.parametrize('distance', [3.0, 30.0, 3000.0])
def test_far_away_images_do_not_underflow(
  vae, params, posterior, keys, distance
):
  """Their weights are beneath the smallest number of single precision."""
  x = np.full((NUM_IMAGES, *SHAPE), distance, np.float32)
  estimates = estimation.estimate(vae, params, x, posterior, keys, 120)
  logs = log_weights_by_hand(vae, params, x, posterior, keys, 120)
  assert (logs < -87).all()
  largest = logs.max(axis=1, keepdims=True)
  expected = largest[:, 0] + np.log(np.exp(logs - largest).mean(axis=1))
  np.testing.assert_allclose(estimates.log_prob, expected, rtol=1e-5)
  for field in estimates:
    assert np.isfinite(field).all()
  assert (estimates.effective_samples >= 1 - 1e-6).all()


@pytest.mark.slow
def test_the_largest_weight_may_come_in_any_chunk(
  vae, params, x, keys, monkeypatch
):
  """Running sums are brought to the largest so far, whichever comes last."""
  random = np.random.default_rng(0)
  rises = np.cumsum(random.normal(0, 40, (NUM_IMAGES, 150)), axis=1) - 500
  logs = np.stack([rises[0], rises[0][::-1], *rises[2:]]).astype(np.float32)
  numbers = iter([0, 0, 1, 2])  # the first chunk has the tenth, too

  def from_table(vae, x, inferred):
    start = 50 * next(numbers)
    return jnp.asarray(logs[:, start : start + 50])

  monkeypatch.setattr(inference, 'log_weights_of', from_table)
  posterior = jnp.zeros((NUM_IMAGES, 1)), jnp.zeros((NUM_IMAGES, 1))
  with jax.disable_jit():
    estimates = estimation.estimate(vae, params, x, posterior, keys, 150)
  logs = logs.astype(np.float64)
  weights = np.exp(logs - logs.max(axis=1, keepdims=True))
  np.testing.assert_allclose(
    estimates.log_prob,
    logs.max(axis=1) + np.log(weights.mean(axis=1)),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    estimates.effective_samples,
    weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1),
    rtol=1e-5,
  )


def test_where_q_is_the_posterior_every_draw_tells_all(x, keys):
  """A linear decoder with columns at right angles (UDL 17.28)."""
  vae = create(2, ())
  matrix = np.array([[0.5, 0.2], [0.5, -0.2], [-0.3, 0.4], [0.3, 0.4]])
  offset = np.array([0.2, 0.4, 0.6, 0.8])
  precision = np.diag(matrix.T @ matrix) / SCALE**2 + 1
  mean = (x.reshape(-1, SIZE) - offset) @ matrix / SCALE**2 / precision
  log_var = np.tile(-np.log(precision), (NUM_IMAGES, 1))
  decoder = {'outputs': {'kernel': matrix.T, 'bias': offset}}
  params, posterior = jax.tree.map(
    jnp.float32, ({'decoder': decoder}, (mean, log_var))
  )
  covariance = matrix @ matrix.T + SCALE**2 * np.eye(SIZE)
  centred = x.reshape(-1, SIZE) - offset
  expected = -0.5 * (
    np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    + np.linalg.slogdet(2 * np.pi * covariance)[1]
  )
  estimates = estimation.estimate(vae, params, x, posterior, keys, 70)
  for values in (estimates.log_prob, estimates.elbo):
    np.testing.assert_allclose(values, expected, atol=1e-5)
  np.testing.assert_allclose(estimates.standard_error, 0, atol=1e-3)
  np.testing.assert_allclose(estimates.effective_samples, 70, rtol=1e-5)
