"""The train step on many devices: what one device computes."""

import functools

from dense_vae import batches
from dense_vae import close
from dense_vae import create
from dense_vae import gradient_of
from dense_vae import initial
import jax
import numpy as np
import pytest

from common_flax import prng
from common_flax.data.batches import join_each
from common_flax.distributed import sharding
from common_flax.training import loop
from vae_flax import inference
from vae_flax import losses
from vae_flax import steps

KINDS = {'jit': sharding.JitOverMesh, 'pmap': sharding.PmapOverMesh}
MANY_DEVICES = [('jit', 8), ('pmap', 8)]
OBJECTIVES = {
  'default': {},
  'elbo': {
    'objective': 'elbo',
    'free_bits_nats': 0.4,
    'kl_warmup_steps': 10,
    'total_correlation_weight': 2.0,
    'dataset.flip': True,
  },
  'iwae': {
    'objective': 'iwae',
    'num_importance_samples': 3,
    'dataset.flip': True,
  },
}


def on_devices(parallelism, num_devices):
  mesh = sharding.create_mesh(jax.devices()[:num_devices])
  return KINDS[parallelism](mesh)


@functools.cache
def create_objective(objective, dtype, axis):
  return create(dtype, axis, **OBJECTIVES[objective])


def compile_step(vae, parallel):
  step = functools.partial(steps.train_step, vae)
  return parallel.compile(
    loop.chain_steps(step, 1, skip_not_finite=False, unroll=True)
  )


def train_on(parallelism, num_devices, num_steps, objective, dtype='float32'):
  """The state and last metrics after some steps on some devices."""
  parallel = on_devices(parallelism, num_devices)
  vae = create_objective(objective, dtype, parallel.axis)
  root = prng.root_key(0)
  state = parallel.spread(initial(vae))
  step = compile_step(vae, parallel)
  for group in join_each(iter(batches(num_steps)), 1):
    state, metrics = step(state, parallel.put_batches(group), root)
  whole = parallel.gather(state)
  return jax.device_get(whole), parallel.local(metrics).unpack()


@functools.cache
def on_one_device(objective):
  return train_on('jit', 1, 20, objective, 'float64')


@pytest.mark.parametrize(
  'objective', ['elbo', pytest.param('iwae', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(('parallelism', 'num_devices'), MANY_DEVICES)
def test_twenty_steps_are_the_same_on_many_devices(
  objective, parallelism, num_devices
):
  with jax.enable_x64(True):
    expected = on_one_device(objective)
    actual = train_on(parallelism, num_devices, 20, objective, 'float64')
  assert actual[0].step == 20
  close(actual, expected, 1e-9)


def test_free_bits_bind_otherwise_on_a_share_of_those_batches():
  """So that the test above tells where the mean over devices is taken."""
  with jax.enable_x64(True):
    vae = create_objective('elbo', 'float64', sharding.WHOLE_BATCH)
    state, _ = on_one_device('elbo')

    @jax.jit
    def divergences(batch):
      x = vae.observe(jax.random.key(0), batch, vae.dtype)
      return losses.gaussian_kl(*inference.encode(vae, state.params, x))

    kl = np.asarray(divergences(batches(1)[0, 0]))  # [B, Z]
  is_free = kl.mean(axis=0) < vae.free_bits_nats
  is_free_on = kl.reshape(8, -1, 3).mean(axis=1) < vae.free_bits_nats
  assert is_free.any()
  assert not is_free.all()
  assert (is_free_on != is_free).any()


@pytest.mark.slow  # the longer one in float64 is not
def test_one_step_in_float32_has_the_same_gradient_on_many_devices():
  expected, _ = train_on('jit', 1, 1, 'default')
  for parallelism, num_devices in MANY_DEVICES:
    actual, _ = train_on(parallelism, num_devices, 1, 'default')
    a, b = map(gradient_of, (actual, expected))
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_the_state_is_donated():
  parallel = on_devices('jit', 1)
  vae = create()
  state = parallel.spread(initial(vae))
  step = compile_step(vae, parallel)
  step(state, parallel.put_batches(batches(1)[:1]), prng.root_key(0))
  assert all(x.is_deleted() for x in jax.tree.leaves(state))
