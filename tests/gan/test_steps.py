"""Each player's step, their composition, and their copies on many devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import prng
from common_flax import sharding
from common_flax.data.batches import Labelled
from common_flax.data.batches import stacked
from gan_flax import config as gan_config
from gan_flax import steps
from gan_flax.state import create_gan
from gan_flax.state import init_state

SHAPE = (16, 16, 1)
BATCH = 16
NUM_CLASSES = 3


def create(dtype='float32', shape=SHAPE, **changes):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.base_features': 4,
      'model.latent_size': 8,
      'compute_dtype': dtype,
      **changes,
    }
  )
  return create_gan(config, shape, NUM_CLASSES)


def batches(num, updates=1, shape=SHAPE):
  random = np.random.default_rng(0)
  return random.integers(0, 256, (num, updates, BATCH, *shape), np.uint8)


def batches_for(gan, num):
  """Batches of steps, with labels if the GAN is conditional."""
  all_images = batches(num, gan.discriminator_steps, gan.example_shape)
  if not gan.is_conditional:
    return all_images
  random = np.random.default_rng(1)
  shape = (num, gan.discriminator_steps, BATCH)
  all_labels = random.integers(0, NUM_CLASSES, shape, np.int32)
  return list(map(Labelled, all_images, all_labels))


@pytest.fixture(scope='module')
def gan():
  return create()


@pytest.fixture(scope='module')
def state(gan):
  return jax.jit(lambda: init_state(gan, prng.root_key(0)))()


@pytest.fixture(scope='module')
def key():
  return jax.random.key(1)


def equal(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_discriminator_step_changes_the_discriminator_alone(gan, state, key):
  step = jax.jit(functools.partial(steps.discriminator_step, gan))
  new, metrics = step(state, batches(1)[0, 0], key)
  assert equal(new.replace(discriminator=state.discriminator), state)
  for part in ('params', 'batch_stats', 'opt_state'):
    old = getattr(state.discriminator, part)
    assert not equal(getattr(new.discriminator, part), old)
  assert set(metrics) == {
    'd_loss',
    'd_accuracy',
    'logit_gap',
    'real_probability',
    'fake_probability',
    'd_grad_norm',
  }


def test_generator_step_changes_the_generator_alone(gan, state, key):
  step = jax.jit(functools.partial(steps.generator_step, gan))
  new, metrics = step(state, batches(1)[0, 0], key)
  back = new.replace(generator=state.generator, ema_params=state.ema_params)
  assert equal(back, state)
  for part in ('params', 'batch_stats', 'opt_state'):
    old = getattr(state.generator, part)
    assert not equal(getattr(new.generator, part), old)
  assert not equal(new.ema_params, state.ema_params)
  assert set(metrics) == {'g_loss', 'g_grad_norm'}


class FirstCoordinate:
  """A discriminator whose logit of a point is its first coordinate."""

  def apply(self, unused_variables, x, unused_labels, **unused_options):
    return x[:, 0], {}


class Constant:
  """A generator that draws the same points of every batch of latents."""

  def __init__(self, *points):
    self._points = jnp.asarray(points)

  def apply(self, *unused_arguments, **unused_options):
    return self._points, {}


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize('loss', ['non_saturating', 'hinge'])
def test_the_discriminators_opinions_are_those_of_its_logits(loss):
  changes = {'model.name': 'mlp', 'dataset.name': 'ring', 'loss.name': loss}
  gan = create(shape=(2,), **changes)
  state = jax.jit(functools.partial(init_state, gan))(prng.root_key(0))
  gan = dataclasses.replace(
    gan,
    discriminator=FirstCoordinate(),
    generator=Constant([1.0, 9.0], [1.0, 9.0], [1.0, 9.0], [-1.0, 9.0]),
  )
  # Right, the same, wrong, right.
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
def test_train_step_is_its_players_steps_in_turn(conditioning):
  updates = 2
  with jax.enable_x64(True):
    gan = create(
      'float64',
      **{'discriminator_steps': updates, 'model.conditioning': conditioning},
    )
    root = prng.root_key(0)
    state = jax.jit(lambda: init_state(gan, root))()
    (batch,) = batches_for(gan, 1)
    parts = [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(updates)]
    composed, metrics = jax.jit(functools.partial(steps.train_step, gan))(
      state, batch, root
    )
    keys = jax.random.split(prng.stream(root, 'train', 0, 0), updates)
    d_step = jax.jit(functools.partial(steps.discriminator_step, gan))
    expected = state
    for part, key in zip(parts, keys, strict=True):
      expected, d_metrics = d_step(expected, part, key)
    expected, g_metrics = jax.jit(functools.partial(steps.generator_step, gan))(
      expected, parts[-1], keys[-1]
    )
    assert composed.step == 1
    close(composed.replace(step=state.step), expected, 1e-12)
    close(metrics, d_metrics | g_metrics, 1e-12)


def close(actual, expected, tolerance):
  """Every array within `tolerance` of the other's largest value, or of 1."""
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def test_losses_fall_where_their_player_moves(key):
  rates = dict.fromkeys(
    ('generator.learning_rate', 'discriminator.learning_rate'), 0.01
  )
  gan = create(**rates)
  state = jax.jit(lambda: init_state(gan, prng.root_key(0)))()
  batch = batches(1)[0, 0]
  d_step = jax.jit(functools.partial(steps.discriminator_step, gan))
  g_step = jax.jit(functools.partial(steps.generator_step, gan))
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
  step = jax.jit(functools.partial(steps.generator_step, gan))
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
    close(state.ema_params, expected, 1e-6)


def test_no_average_is_the_weights_themselves(state, key):
  gan = create(**{'ema_decay': 0.0})
  step = jax.jit(functools.partial(steps.generator_step, gan))
  new, _ = step(state, batches(1)[0, 0], key)
  close(new.ema_params, new.generator.params, 1e-7)


def test_a_retry_and_another_step_draw_anew(gan, state):
  step = jax.jit(functools.partial(steps.train_step, gan))
  root, batch = prng.root_key(0), batches(1)[0]
  first, _ = step(state, batch, root)
  again, _ = step(state, batch, root)
  retried, _ = step(state.replace(attempt=jnp.int32(1)), batch, root)
  later, _ = step(state.replace(step=jnp.int32(1)), batch, root)
  assert equal(first, again)
  assert not equal(first.generator.params, retried.generator.params)
  assert not equal(first.generator.params, later.generator.params)


def test_gradient_norm_limit_bounds_the_update(state, key):
  changes = {'discriminator.max_grad_norm': 1e-12}
  gan = create(**changes)
  state = jax.jit(lambda: init_state(gan, prng.root_key(0)))()
  step = jax.jit(functools.partial(steps.discriminator_step, gan))
  new, metrics = step(state, batches(1)[0, 0], key)
  assert metrics['d_grad_norm'] > 1e-3  # reported as it was
  # Adam divides by |g| + 1e-8: gradients far below it move nothing much.
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
  states = [jax.jit(lambda: init_state(gan, root))()]
  for batch in batches(5):
    states.append(step(states[-1], batch, root)[0])
  assert not equal(states[3].generator.params, states[4].generator.params)
  assert equal(states[4].generator.params, states[5].generator.params)


def train_on(gan, parallelism, num_devices, num_steps, steps_per_call=1):
  """The state after some steps on some devices."""
  mesh = sharding.create_mesh(jax.devices()[:num_devices])
  parallel = sharding.create(parallelism, mesh)
  root = prng.root_key(0)
  state = parallel.spread(
    jax.jit(
      lambda: init_state(gan, root), out_shardings=parallel.state_sharding
    )()
  )
  step = parallel.compile(
    sharding.in_one_call(
      functools.partial(steps.train_step, gan), steps_per_call
    )
  )
  all_batches = iter(batches_for(gan, num_steps))
  for group in stacked(all_batches, steps_per_call):
    state, metrics = step(state, parallel.put_batches(group), root)
  whole = parallel.gather(state)
  assert {x.sharding for x in jax.tree.leaves(whole)} == {
    parallel.state_sharding
  }
  return jax.device_get((whole, parallel.local(metrics)))


MANY_DEVICES = [('jit', 8), ('pmap', 8)]


@pytest.fixture(scope='module')
def on_one_device():
  with jax.enable_x64(True):
    gan = create('float64', **{'dataset.flip': True})
    return gan, train_on(gan, 'jit', 1, 20)


@pytest.mark.parametrize(('parallelism', 'num_devices'), MANY_DEVICES)
def test_twenty_steps_are_the_same_on_many_devices(
  on_one_device, parallelism, num_devices
):
  gan, expected = on_one_device
  with jax.enable_x64(True):
    close(train_on(gan, parallelism, num_devices, 20), expected, 1e-9)


@pytest.fixture(scope='module')
def penalised():
  """All that a step may do beside the plain game."""
  with jax.enable_x64(True):
    gan = create(
      'float64',
      **{
        'loss.name': 'relativistic',
        'penalty.gradient': 1.0,
        'penalty.r1': 1.0,
        'penalty.r2': 1.0,
        'penalty.every_steps': 2,
        'model.discriminator_norm': 'group',
        'model.spectral_norm': True,
        'model.packing': 2,
        'augmentation.color': True,
        'augmentation.translation': True,
        'augmentation.cutout': True,
      },
    )
    return gan, train_on(gan, 'jit', 1, 3)


@pytest.mark.slow  # compiles three times what the plain step takes
@pytest.mark.parametrize(('parallelism', 'num_devices'), MANY_DEVICES)
def test_penalised_steps_are_the_same_on_many_devices(
  penalised, parallelism, num_devices
):
  gan, expected = penalised
  with jax.enable_x64(True):
    close(train_on(gan, parallelism, num_devices, 3), expected, 1e-9)


@pytest.fixture(scope='module')
def conditional():
  """Norms of each class, a fit to the label, and a penalty on its slope."""
  with jax.enable_x64(True):
    gan = create(
      'float64',
      (2,),
      **{
        'dataset.name': 'ring',
        'model.name': 'pacgan',
        'model.conditioning': 'projection',
        'model.discriminator_norm': 'none',
        'model.spectral_norm': True,
        'penalty.gradient': 1.0,
      },
    )
    return gan, train_on(gan, 'jit', 1, 3)


@pytest.mark.slow
@pytest.mark.parametrize(('parallelism', 'num_devices'), MANY_DEVICES)
def test_conditional_steps_are_the_same_on_many_devices(
  conditional, parallelism, num_devices
):
  gan, expected = conditional
  with jax.enable_x64(True):
    close(train_on(gan, parallelism, num_devices, 3), expected, 1e-9)


def test_each_player_learns_of_the_labels_of_the_batch(key):
  """Beside its input each has a row of weights for every class."""
  gan = create(
    shape=(2,),
    **{
      'dataset.name': 'ring',
      'model.name': 'mlp',
      'model.conditioning': 'concatenation',
    },
  )
  state = jax.jit(lambda: init_state(gan, prng.root_key(0)))()
  batch = Labelled(batches(1, shape=(2,))[0, 0], np.arange(BATCH) % 2 * 2)
  for player in ('discriminator', 'generator'):
    step = jax.jit(functools.partial(getattr(steps, f'{player}_step'), gan))
    new, _ = step(state, batch, key)
    old, new = (
      getattr(s, player).params['dense_0']['kernel'][-NUM_CLASSES:]
      for s in (state, new)
    )
    # Classes 0 and 2 are in the batch, and 1 is not.
    moved = np.any(np.asarray(old != new), axis=1)
    np.testing.assert_array_equal(moved, [True, False, True])


def test_a_penalty_on_the_slope_to_each_label_is_paid(conditional):
  _, (state, metrics) = conditional
  assert 0 < metrics['d_penalty'] < np.inf
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


@pytest.mark.slow
def test_groups_may_lie_on_several_devices():
  """Two of the four examples that are compared on each."""
  with jax.enable_x64(True):
    gan = create(
      'float64',
      (2,),
      **{
        'dataset.name': 'ring',
        'model.name': 'mlp',
        'model.discriminator_norm': 'none',
        'model.minibatch_deviation': True,
        'penalty.r1': 1.0,
      },
    )
    close(train_on(gan, 'jit', 8, 3), train_on(gan, 'jit', 1, 3), 1e-9)


@pytest.mark.slow  # two more programs to compile
@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
def test_steps_in_one_call_are_the_same_steps(
  on_one_device, monkeypatch, platform
):
  """Written out, as on a CPU, and in a loop, as elsewhere."""
  gan, expected = on_one_device
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  with jax.enable_x64(True):
    close(train_on(gan, 'jit', 2, 20, steps_per_call=4), expected, 1e-9)


def gradients_of(state):
  """Both players' first gradients: Adam's first moment holds their tenth."""
  moments = []
  for net in (state.generator, state.discriminator):
    (adam, *_) = net.opt_state
    moments.append(
      np.concatenate([np.ravel(x) for x in jax.tree.leaves(adam.mu)])
    )
  return moments


@pytest.mark.slow  # the longer one in float64 is not
@pytest.mark.parametrize(('parallelism', 'num_devices'), MANY_DEVICES)
def test_one_step_in_float32_has_the_same_gradients_on_many_devices(
  gan, parallelism, num_devices
):
  expected, _ = train_on(gan, 'jit', 1, 1)
  actual, _ = train_on(gan, parallelism, num_devices, 1)
  for a, b in zip(*map(gradients_of, (actual, expected)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_the_state_is_donated(gan):
  parallel = sharding.create('jit', sharding.create_mesh(jax.devices()[:1]))
  root = prng.root_key(0)
  state = parallel.spread(jax.jit(lambda: init_state(gan, root))())
  step = parallel.compile(
    sharding.in_one_call(functools.partial(steps.train_step, gan), 1)
  )
  step(state, parallel.put_batches(batches(1)[:1]), root)
  assert all(x.is_deleted() for x in jax.tree.leaves(state))
