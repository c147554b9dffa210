"""Gradient penalties against known gradients, and in discriminator steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_gan import player_step

from common_flax import prng
from gan_flax import config as gan_config
from gan_flax import penalties
from gan_flax.gan import create_gan
from gan_flax.models import r3gan
from gan_flax.state import init_state

SHAPE = (8, 8, 1)


@pytest.fixture(scope='module', autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


@pytest.fixture(scope='module')
def pairs():
  """Real and generated examples [5, 2, 3], and points between them."""
  random = np.random.default_rng(0)
  real, fake = random.normal(size=(2, 5, 2, 3))
  weights = random.uniform(size=5)
  between = weights[:, None, None] * real + (1 - weights)[:, None, None] * fake
  return real, fake, weights, between


def quadratic(x):
  """Half the squared norm; its gradient is x."""
  return 0.5 * jnp.sum(x**2, axis=(1, 2))


def test_zero_centred_penalty_is_half_the_squared_gradient_norm(pairs):
  real, *_ = pairs
  np.testing.assert_allclose(
    penalties.zero_centred(quadratic, real),
    (real**2).sum(axis=(1, 2)) / 2,
    rtol=1e-12,
  )


def test_one_centred_penalty_at_interpolated_points(pairs):
  real, fake, weights, between = pairs
  points = penalties.interpolate(real, fake, weights)
  np.testing.assert_allclose(points, between, rtol=1e-12)
  norms = np.sqrt((between**2).sum(axis=(1, 2)))
  np.testing.assert_allclose(
    penalties.one_centred(quadratic, points), (norms - 1) ** 2, rtol=1e-12
  )


def test_a_flat_critic_has_penalty_one_and_a_finite_gradient(pairs):
  *_, between = pairs

  def pay(scale):
    return jnp.mean(
      penalties.one_centred(lambda x: scale * quadratic(x), between)
    )

  value, gradient = jax.value_and_grad(pay)(0.0)
  assert value == pytest.approx(1)
  assert np.isfinite(gradient)


def test_total_weighs_penalties_and_scales_by_their_interval(pairs):
  real, fake, weights, between = pairs
  paid = penalties.Penalties(gradient=10.0, r1=2.0, r2=3.0, every_steps=4)
  expected = 4 * (
    10 * np.mean(penalties.one_centred(quadratic, between))
    + 2 * np.mean((real**2).sum(axis=(1, 2)) / 2)
    + 3 * np.mean((fake**2).sum(axis=(1, 2)) / 2)
  )
  total = paid.total(quadratic, real, fake, weights)
  np.testing.assert_allclose(total, expected, rtol=1e-12)


def create(**changes):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.base_features': 2,
      'model.latent_size': 3,
      'model.discriminator_norm': 'layer',
      'compute_dtype': 'float64',
      **changes,
    }
  )
  gan = create_gan(config, SHAPE)
  return gan, jax.jit(lambda: init_state(gan, prng.root_key(0)))()


def batch():
  return np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8)


def critic_of(gan, params):
  return lambda x: gan.discriminator.apply({'params': params}, x, train=False)


def step(gan, state):
  """One discriminator update, always with the same draws."""
  return player_step(gan, 'discriminator')(state, batch(), jax.random.key(2))


@pytest.mark.parametrize('norm', ['layer', 'group', 'none'])
def test_penalty_gradient_matches_finite_differences(norm):
  """The second derivatives of convolutions are right."""
  # On a grid of 8 pixels, the discriminator's only layer has no norm.
  gan, state = create(
    **{'model.discriminator_norm': norm, 'model.grid_size': 16}
  )
  params = state.discriminator.params
  images = np.random.default_rng(1).uniform(-1, 1, (3, *SHAPE))
  random = np.random.default_rng(2)
  direction = jax.tree.map(lambda p: random.normal(size=p.shape), params)

  @jax.jit
  def pay(distance):
    moved = jax.tree.map(lambda p, d: p + distance * d, params, direction)
    slopes = penalties.zero_centred(critic_of(gan, moved), images)
    return jnp.mean(slopes)

  difference = (pay(1e-6) - pay(-1e-6)) / 2e-6
  np.testing.assert_allclose(jax.grad(pay)(0.0), difference, rtol=1e-4)


def test_a_step_adds_its_penalty_and_reports_it():
  gan, state = create(**{'penalty.r1': 5.0, 'loss.name': 'hinge'})
  free, _ = create(**{'loss.name': 'hinge'})
  _, metrics = step(gan, state)
  _, others = step(free, state)
  real = batch() / 127.5 - 1
  critic = critic_of(gan, state.discriminator.params)
  expected = 5 * np.mean(penalties.zero_centred(critic, jnp.asarray(real)))
  np.testing.assert_allclose(metrics['d_penalty'], expected, rtol=1e-6)
  assert metrics['d_loss'] == pytest.approx(float(others['d_loss']))
  assert metrics.keys() - others.keys() == {'d_penalty'}
  assert metrics['d_grad_norm'] != others['d_grad_norm']


def test_a_lazy_penalty_is_applied_every_n_steps():
  gan, state = create(**{'penalty.r1': 5.0, 'penalty.every_steps': 3})
  every, _ = create(**{'penalty.r1': 15.0})
  update = player_step(gan, 'discriminator')
  key = jax.random.key(2)
  paid = [
    float(
      update(state.replace(step=jnp.int32(t)), batch(), key)[1]['d_penalty']
    )
    for t in range(4)
  ]
  due = float(step(every, state)[1]['d_penalty'])
  assert due > 0
  np.testing.assert_allclose(paid, [due, 0, 0, due], rtol=1e-9)


@pytest.mark.parametrize('conditioning', ['none', 'projection'])
def test_logits_of_homogeneous_networks_follow_from_their_gradients(
  conditioning,
):
  net = r3gan.Discriminator(
    (8, 8, 2),
    base_features=2,
    blocks_per_stage=1,
    group_size=2,
    conditioning=conditioning,
    num_classes=3,
    dtype=jnp.float64,
    param_dtype=jnp.float64,
  )
  random = np.random.default_rng(0)
  images = random.normal(size=(2, 8, 8, 2))
  labels = jnp.array([2, 0]) if conditioning == 'projection' else None
  params = jax.eval_shape(
    functools.partial(net.init, train=True), jax.random.key(0), images, labels
  )
  params = jax.tree.map(lambda p: 0.3 * random.normal(size=p.shape), params)

  def critic(params, x, scale=None):
    return net.apply(params, x, labels, train=True, bias_scale=scale)

  def loss(logits, gradients):
    return jnp.sum(jnp.tanh(logits)) + 0.3 * jnp.sum(gradients**2)

  def direct(params):
    gradients = jax.grad(lambda x: jnp.sum(critic(params, x)))(images)
    return loss(critic(params, images), gradients)

  def by_euler(params):
    found = penalties.logits_and_input_gradients(
      functools.partial(critic, params), images
    )
    return loss(*found)

  @jax.jit
  def everything(params):
    doubled = critic(params, 2 * images, jnp.full(2, 2.0))
    found = [jax.value_and_grad(f)(params) for f in (direct, by_euler)]
    return doubled, critic(params, images), *found

  assert net.is_homogeneous
  doubled, logits, expected, actual = everything(params)
  np.testing.assert_allclose(doubled, 2 * logits, rtol=1e-9)
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    assert np.abs(b).max() > 0
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * np.abs(b).max())


def test_labels_beside_the_pixels_are_not_scaled():
  net = r3gan.Discriminator((8, 8, 2), conditioning='concatenation')
  assert not net.is_homogeneous


def test_one_derivative_needs_both_penalties_at_every_step():
  options = dict(gradient=0.0, r1=1.0, r2=2.0, every_steps=1)
  assert penalties.Penalties(**options).are_of_both
  for change in ({'r2': 0.0}, {'every_steps': 2}, {'gradient': 1.0}):
    assert not penalties.Penalties(**options | change).are_of_both


def test_one_derivative_serves_loss_and_penalties(monkeypatch):
  changes = {
    'model.name': 'r3gan',
    'model.discriminator_norm': 'none',
    'model.group_size': 2,
    'model.blocks_per_stage': 1,
    'loss.name': 'relativistic',
    'penalty.r1': 0.5,
    'penalty.r2': 0.7,
    'penalty.final_share': 0.1,
  }
  gan, state = create(**changes)
  assert gan.derives_once
  moved, metrics = step(gan, state)
  monkeypatch.setattr(type(gan), 'derives_once', False)
  expected, others = step(gan, state)
  assert metrics.keys() == others.keys()
  for name, value in metrics.items():
    assert value == pytest.approx(float(others[name]), rel=1e-9), name
  # Adam's moments are the gradients, up to factors.
  nets = [s.discriminator for s in (moved, expected)]
  for a, b in zip(*map(jax.tree.leaves, nets), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_weights_of_penalties_fall_along_a_cosine():
  options = dict(gradient=0.0, r1=5.0, r2=0.0, every_steps=1)
  falling = penalties.Penalties(**options, final_share=0.1, num_steps=8)
  shares = [float(falling.share(jnp.int32(t))) for t in (0, 4, 8, 9)]
  np.testing.assert_allclose(shares, [1, 0.55, 0.1, 0.1], rtol=1e-6)
  assert penalties.Penalties(**options).share(jnp.int32(3)) == 1


def test_a_step_pays_the_share_of_its_penalty():
  gan, state = create(
    **{'penalty.r1': 5.0, 'penalty.final_share': 0.1, 'num_steps': 8}
  )
  update = player_step(gan, 'discriminator')
  paid = [
    float(
      update(state.replace(step=t), batch(), jax.random.key(2))[1]['d_penalty']
    )
    for t in map(jnp.int32, (0, 8))
  ]
  assert paid[1] == pytest.approx(0.1 * paid[0]) and paid[0] > 0


def test_weights_are_clipped():
  gan, state = create(
    **{'loss.name': 'wasserstein', 'penalty.max_weight': 0.01}
  )
  after, _ = step(gan, state)
  largest = max(
    np.abs(x).max() for x in jax.tree.leaves(after.discriminator.params)
  )
  assert largest == pytest.approx(0.01)


def test_spectral_norm_divides_by_the_largest_singular_value():
  """Each step continues the power iteration of the step before."""
  gan, state = create(
    **{'model.spectral_norm': True, 'model.discriminator_norm': 'none'}
  )
  frozen, update = state, player_step(gan, 'discriminator')
  for _ in range(60):
    moved, _ = update(frozen, batch(), jax.random.key(2))
    net = frozen.discriminator.replace(
      batch_stats=moved.discriminator.batch_stats
    )
    frozen = frozen.replace(discriminator=net)
  kernels = {
    name: leaf['kernel'] for name, leaf in frozen.discriminator.params.items()
  }
  found = frozen.discriminator.batch_stats
  for name, kernel in kernels.items():
    matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
    largest = np.linalg.svd(matrix, compute_uv=False)[0]
    sigma = found[f'{name}_spectral'][f'{name}/kernel/sigma']
    assert sigma == pytest.approx(largest, rel=1e-6)
