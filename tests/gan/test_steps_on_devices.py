"""Train steps give the same results however many devices share them."""

import functools

import jax
import numpy as np
import pytest
from small_gan import assert_close
from small_gan import BATCH
from small_gan import batches_for
from small_gan import create
from small_gan import initial_state

from common_flax import prng
from common_flax.cpu import loops
from common_flax.data.batches import join_each
from common_flax.distributed import sharding
from common_flax.training import loop
from gan_flax import steps

# What a step may do beside the plain game.
PENALISED = {
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
}
# Class-conditional norms, a projection discriminator, a gradient penalty.
CONDITIONAL = {
  'dataset.name': 'ring',
  'model.name': 'pacgan',
  'model.conditioning': 'projection',
  'model.discriminator_norm': 'none',
  'model.spectral_norm': True,
  'penalty.gradient': 1.0,
}

# R3GAN: its networks, labels embedded beside z, weights of penalties that fall.
R3GAN = {
  'model.name': 'r3gan',
  'model.group_size': 4,
  'model.blocks_per_stage': 1,
  'model.conditioning': 'projection',
  'model.discriminator_norm': 'none',
  'loss.name': 'relativistic',
  'penalty.r1': 1.0,
  'penalty.r2': 1.0,
  'penalty.final_share': 0.1,
  'generator.schedule': 'cosine',
  'num_steps': 4,
}

# Distorted images, whose probability rises after every fourth step, and every
# penalty on the gradients with respect to them.
ADAPTIVE = {
  'augmentation.name': 'ada',
  'augmentation.target': -0.99,
  'augmentation.speed_images': 2 * 4 * BATCH,
  'model.discriminator_norm': 'none',
  'penalty.gradient': 1.0,
  'penalty.r1': 1.0,
  'penalty.r2': 1.0,
}

on_many_devices = pytest.mark.parametrize('parallelism', ['jit', 'pmap'])


def parallel_on(parallelism, num_devices):
  kinds = {'jit': sharding.JitOverMesh, 'pmap': sharding.PmapOverMesh}
  mesh = sharding.create_mesh(jax.devices()[:num_devices])
  return kinds[parallelism](mesh)


def compiled(gan, parallel, steps_per_call=1, *, unroll=True):
  return parallel.compile(
    loop.chain_steps(
      functools.partial(steps.train_step, gan),
      steps_per_call,
      skip_not_finite=False,
      unroll=unroll,
    )
  )


def train_on(
  create, parallelism, num_devices, num_steps, steps_per_call=1, unroll=True
):
  """Trains on some devices.

  Args:
    create: makes the GAN for the `axis` of its batches.
    parallelism: 'jit' or 'pmap'.
    num_devices: the first of all devices.
    num_steps: train steps.
    steps_per_call: a divisor of `num_steps`.
    unroll: see `loop.chain_steps`.

  Returns:
    The last state and metrics, in NumPy.
  """
  parallel = parallel_on(parallelism, num_devices)
  gan, root = create(axis=parallel.axis), prng.root_key(0)
  state = jax.device_put(initial_state(gan), parallel.state_sharding)
  state = parallel.spread(state)
  step = compiled(gan, parallel, steps_per_call, unroll=unroll)
  all_batches = iter(batches_for(gan, num_steps))
  for group in join_each(all_batches, steps_per_call):
    state, metrics = step(state, parallel.put_batches(group), root)
  whole = parallel.gather(state)
  assert {x.sharding for x in jax.tree.leaves(whole)} == {
    parallel.state_sharding
  }
  return jax.device_get(whole), parallel.local(metrics).unpack()


@pytest.fixture(scope='module')
def plain():
  create_plain = functools.partial(create, 'float64', **{'dataset.flip': True})
  with jax.enable_x64(True):
    return create_plain, train_on(create_plain, 'jit', 1, 20)


@on_many_devices
def test_twenty_steps_are_the_same_on_many_devices(plain, parallelism):
  create_plain, expected = plain
  with jax.enable_x64(True):
    assert_close(train_on(create_plain, parallelism, 8, 20), expected, 1e-9)


@pytest.fixture(scope='module')
def penalised():
  create_penalised = functools.partial(create, 'float64', **PENALISED)
  with jax.enable_x64(True):
    return create_penalised, train_on(create_penalised, 'jit', 1, 3)


@pytest.mark.slow  # compiles three times as long as the plain step
@on_many_devices
def test_penalised_steps_are_the_same_on_many_devices(penalised, parallelism):
  create_penalised, expected = penalised
  with jax.enable_x64(True):
    assert_close(train_on(create_penalised, parallelism, 8, 3), expected, 1e-9)


@pytest.fixture(scope='module')
def conditional():
  create_conditional = functools.partial(create, 'float64', (2,), **CONDITIONAL)
  with jax.enable_x64(True):
    return create_conditional, train_on(create_conditional, 'jit', 1, 3)


@pytest.mark.slow
@on_many_devices
def test_conditional_steps_are_the_same_on_many_devices(
  conditional, parallelism
):
  create_conditional, expected = conditional
  with jax.enable_x64(True):
    actual = train_on(create_conditional, parallelism, 8, 3)
    assert_close(actual, expected, 1e-9)


@pytest.mark.slow
def test_r3gan_steps_are_the_same_on_many_devices():
  create_r3gan = functools.partial(create, 'float64', (8, 8, 1), **R3GAN)
  with jax.enable_x64(True):
    expected = train_on(create_r3gan, 'jit', 1, 2)
    for parallelism in ('jit', 'pmap'):
      actual = train_on(create_r3gan, parallelism, 2, 2)
      assert_close(actual, expected, 1e-9)


@pytest.fixture(scope='module')
def adaptive():
  create_adaptive = functools.partial(create, 'float64', (8, 8, 1), **ADAPTIVE)
  with jax.enable_x64(True):
    return create_adaptive, train_on(create_adaptive, 'jit', 1, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('parallelism', 'num_devices', 'steps_per_call'),
  [('pmap', 2, 1), ('jit', 2, 4)],
)
def test_adaptively_augmented_steps_are_the_same(
  adaptive, parallelism, num_devices, steps_per_call
):
  """On many devices, and several in one call."""
  create_adaptive, expected = adaptive
  state, metrics = expected
  assert metrics['augmentation_p'] == 0.5  # of the last four steps
  assert state.augmentation.p == 1.0
  assert metrics['d_penalty'] > 0
  with jax.enable_x64(True):
    actual = train_on(
      create_adaptive, parallelism, num_devices, 8, steps_per_call, unroll=1
    )
    assert_close(actual, expected, 1e-9)


def test_a_conditional_discriminator_pays_its_gradient_penalty(conditional):
  _, (state, metrics) = conditional
  assert 0 < metrics['d_penalty'] < np.inf
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


@pytest.mark.slow
def test_minibatch_deviation_may_compare_examples_of_several_devices():
  """Its groups have four examples, and each device holds two."""
  create_comparing = functools.partial(
    create,
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
  with jax.enable_x64(True):
    actual = train_on(create_comparing, 'jit', 8, 3)
    assert_close(actual, train_on(create_comparing, 'jit', 1, 3), 1e-9)


@pytest.mark.slow  # two more programs to compile
@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
def test_several_steps_in_one_call_are_the_same_steps(
  plain, monkeypatch, platform
):
  """Unrolled, as on a CPU, and in a loop, as elsewhere."""
  create_plain, expected = plain
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  unroll = loops.unroll(is_convolutional=True)
  with jax.enable_x64(True):
    actual = train_on(create_plain, 'jit', 2, 20, 4, unroll)
    assert_close(actual, expected, 1e-9)


def gradients(state):
  """Both players' first gradients, from Adam's first moments."""
  moments = []
  for net in (state.generator, state.discriminator):
    (adam, *_) = net.opt_state
    moments.append(
      np.concatenate([np.ravel(x) for x in jax.tree.leaves(adam.mu)])
    )
  return moments


@pytest.mark.slow  # twenty steps in float64 are tested more often
@on_many_devices
def test_float32_gradients_are_the_same_on_many_devices(parallelism):
  expected, _ = train_on(create, 'jit', 1, 1)
  actual, _ = train_on(create, parallelism, 8, 1)
  for a, b in zip(*map(gradients, (actual, expected)), strict=True):
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_the_state_is_donated():
  gan, parallel = create(), parallel_on('jit', 1)
  state = parallel.spread(initial_state(gan))
  (group,) = join_each(iter(batches_for(gan, 1)), 1)
  batch = parallel.put_batches(group)
  compiled(gan, parallel)(state, batch, prng.root_key(0))
  assert all(x.is_deleted() for x in jax.tree.leaves(state))
