"""The updates of the players, and the step that composes them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_gan import assert_close
from small_gan import BATCH
from small_gan import batches
from small_gan import batches_for
from small_gan import create
from small_gan import initial_state
from small_gan import is_equal
from small_gan import NUM_CLASSES
from small_gan import player_step

from common_flax import prng
from common_flax.data.batches import Labelled
from gan_flax import steps


@pytest.fixture(scope='module')
def gan():
  return create()


@pytest.fixture(scope='module')
def state(gan):
  return initial_state(gan)


@pytest.fixture(scope='module')
def key():
  return jax.random.key(1)


def test_discriminator_step_changes_the_discriminator_alone(gan, state, key):
  step = player_step(gan, 'discriminator')
  new, metrics = step(state, batches(1)[0, 0], key)
  assert is_equal(new.replace(discriminator=state.discriminator), state)
  for part in ('params', 'batch_stats', 'opt_state'):
    old = getattr(state.discriminator, part)
    assert not is_equal(getattr(new.discriminator, part), old)
  assert set(metrics) == {
    'd_loss',
    'd_accuracy',
    'logit_gap',
    'real_probability',
    'fake_probability',
    'd_grad_norm',
  }


def test_generator_step_changes_the_generator_alone(gan, state, key):
  step = player_step(gan, 'generator')
  new, metrics = step(state, batches(1)[0, 0], key)
  back = new.replace(generator=state.generator, ema_params=state.ema_params)
  assert is_equal(back, state)
  for part in ('params', 'batch_stats', 'opt_state'):
    old = getattr(state.generator, part)
    assert not is_equal(getattr(new.generator, part), old)
  assert not is_equal(new.ema_params, state.ema_params)
  assert set(metrics) == {'g_loss', 'g_grad_norm'}


class FirstCoordinate:
  """A discriminator whose logit is the first coordinate of a point."""

  def apply(self, unused_variables, x, unused_labels, **unused_options):
    return x[:, 0], {}


class Constant:
  """A generator that maps every batch of latents to the same points."""

  def __init__(self, *points):
    self._points = jnp.asarray(points)

  def apply(self, *unused_arguments, **unused_options):
    return self._points, {}


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize('loss', ['non_saturating', 'hinge'])
def test_discriminator_metrics_are_computed_from_its_logits(loss):
  changes = {'model.name': 'mlp', 'dataset.name': 'ring', 'loss.name': loss}
  gan = create(shape=(2,), **changes)
  state = initial_state(gan)
  gan = dataclasses.replace(
    gan,
    discriminator=FirstCoordinate(),
    generator=Constant([1.0, 9.0], [1.0, 9.0], [1.0, 9.0], [-1.0, 9.0]),
  )
  # The real logit is higher, equal, lower, higher.
  real = jnp.asarray([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [4.0, 0.0]])
  step = jax.jit(functools.partial(steps.train_step, gan))
  _, metrics = step(state, real[None], prng.root_key(0))
  assert metrics['d_accuracy'] == (1 + 0.5 + 0 + 1) / 4
  assert metrics['logit_gap'] == (2 + 1 + 0 + 4) / 4 - (1 + 1 + 1 - 1) / 4
  if loss == 'hinge':
    assert metrics['real_score'] == 1.75
    assert metrics['fake_score'] == 0.5
    assert 'real_probability' not in metrics
  else:
    probability = sigmoid(np.array([2.0, 1.0, 0.0, 4.0])).mean()
    assert metrics['real_probability'] == pytest.approx(probability)
    probability = (3 * sigmoid(1.0) + sigmoid(-1.0)) / 4
    assert metrics['fake_probability'] == pytest.approx(probability)


@pytest.mark.parametrize(
  'conditioning', ['none', pytest.param('projection', marks=pytest.mark.slow)]
)
def test_train_step_composes_the_players_steps(conditioning):
  updates = 2
  with jax.enable_x64(True):
    gan = create(
      'float64',
      **{'discriminator_steps': updates, 'model.conditioning': conditioning},
    )
    root = prng.root_key(0)
    state = initial_state(gan)
    (batch,) = batches_for(gan, 1)
    parts = [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(updates)]
    composed, metrics = jax.jit(functools.partial(steps.train_step, gan))(
      state, batch, root
    )
    keys = jax.random.split(prng.stream(root, 'train', 0, 0), updates)
    d_step = player_step(gan, 'discriminator')
    expected = state
    for part, key in zip(parts, keys, strict=True):
      expected, d_metrics = d_step(expected, part, key)
    expected, g_metrics = player_step(gan, 'generator')(
      expected, parts[-1], keys[-1]
    )
    assert composed.step == 1
    assert_close(composed.replace(step=state.step), expected, 1e-12)
    assert_close(metrics, d_metrics | g_metrics, 1e-12)


def test_each_players_steps_reduce_its_loss(key):
  rates = dict.fromkeys(
    ('generator.learning_rate', 'discriminator.learning_rate'), 0.01
  )
  gan = create(**rates)
  state = initial_state(gan)
  batch = batches(1)[0, 0]
  d_step = player_step(gan, 'discriminator')
  g_step = player_step(gan, 'generator')
  d_losses, g_losses = [], []
  for _ in range(20):
    state, metrics = d_step(state, batch, key)
    d_losses.append(metrics['d_loss'])
  for _ in range(20):
    state, metrics = g_step(state, batch, key)
    g_losses.append(metrics['g_loss'])
  assert d_losses[-1] < 0.8 * d_losses[0]
  assert g_losses[-1] < 0.8 * g_losses[0]


def test_moving_average_warms_up(gan, state):
  step = player_step(gan, 'generator')
  batch = batches(1)[0, 0]
  expected = state.ema_params
  for t in range(3):
    state, _ = step(state.replace(step=jnp.int32(t)), batch, jax.random.key(t))
    decay = min(gan.ema_decay, (1 + t) / (10 + t))
    expected = jax.tree.map(
      lambda a, p, decay=decay: decay * a + (1 - decay) * p,
      expected,
      state.generator.params,
    )
    assert_close(state.ema_params, expected, 1e-6)


def test_without_averaging_the_average_is_the_weights(state, key):
  gan = create(**{'ema_decay': 0.0})
  step = player_step(gan, 'generator')
  new, _ = step(state, batches(1)[0, 0], key)
  assert_close(new.ema_params, new.generator.params, 1e-7)


def test_another_attempt_or_step_draws_new_random_numbers(gan, state):
  step = jax.jit(functools.partial(steps.train_step, gan))
  root, batch = prng.root_key(0), batches(1)[0]
  first, _ = step(state, batch, root)
  again, _ = step(state, batch, root)
  retried, _ = step(state.replace(attempt=jnp.int32(1)), batch, root)
  later, _ = step(state.replace(step=jnp.int32(1)), batch, root)
  assert is_equal(first, again)
  assert not is_equal(first.generator.params, retried.generator.params)
  assert not is_equal(first.generator.params, later.generator.params)


def test_gradient_norm_limit_bounds_the_update(state, key):
  changes = {'discriminator.max_grad_norm': 1e-12}
  gan = create(**changes)
  state = initial_state(gan)
  step = player_step(gan, 'discriminator')
  new, metrics = step(state, batches(1)[0, 0], key)
  assert metrics['d_grad_norm'] > 1e-3  # reported before clipping
  # Adam divides by |g| + 1e-8, so gradients far below that hardly move.
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).max(),
    new.discriminator.params,
    state.discriminator.params,
  )
  assert max(jax.tree.leaves(moved)) < 2e-7


@pytest.mark.parametrize(
  'name', ['linear', pytest.param('cosine', marks=pytest.mark.slow)]
)
def test_schedules_end_at_zero(name):
  changes = {'num_steps': 4, 'generator.schedule': name}
  gan = create(**changes)
  root = prng.root_key(0)
  step = jax.jit(functools.partial(steps.train_step, gan))
  states = [initial_state(gan)]
  for batch in batches(5):
    states.append(step(states[-1], batch, root)[0])
  assert not is_equal(states[3].generator.params, states[4].generator.params)
  assert is_equal(states[4].generator.params, states[5].generator.params)


def test_each_player_learns_only_the_classes_of_the_batch(key):
  """Each player has a row of weights for every class."""
  gan = create(
    shape=(2,),
    **{
      'dataset.name': 'ring',
      'model.name': 'mlp',
      'model.conditioning': 'concatenation',
    },
  )
  state = initial_state(gan)
  batch = Labelled(batches(1, shape=(2,))[0, 0], np.arange(BATCH) % 2 * 2)
  for player in ('discriminator', 'generator'):
    step = player_step(gan, player)
    new, _ = step(state, batch, key)
    old, new = (
      getattr(s, player).params['dense_0']['kernel'][-NUM_CLASSES:]
      for s in (state, new)
    )
    # Classes 0 and 2 are in the batch, and 1 is not.
    moved = np.any(np.asarray(old != new), axis=1)
    np.testing.assert_array_equal(moved, [True, False, True])
