"""What training minimises: its weights, its free bits, its other bounds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_vae import close_to_mean
from small_vae import create
from small_vae import draw
from small_vae import flat
from small_vae import init
from small_vae import LinearVAE
from small_vae import NUM_IMAGES
from small_vae import over_keys
from small_vae import same
from small_vae import SCALE
from small_vae import SHAPE
from small_vae import SIZE
from small_vae import STEP
from small_vae import value_and_gradient

from vae_flax import inference
from vae_flax import losses
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


@pytest.mark.slow
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

  def reparameterise(key, mean, log_var, num_samples, axis):
    del axis
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
