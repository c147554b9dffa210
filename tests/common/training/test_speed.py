"""Counted operations and rates."""

import functools

from conftest import recipe
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import prng
from common_flax.distributed import sharding
from common_flax.nn import conv
from common_flax.training import speed
from common_flax.training.speed import count_flops
from gan_flax import steps as gan_steps
from gan_flax.gan import create_gan
from gan_flax.state import init_state as init_gan
from vae_flax import steps as vae_steps
from vae_flax.state import init_state as init_vae
from vae_flax.vae import create_vae

SHAPE = (8, 8, 1)
BATCH = 16
FAMILIES = {
  'gan': ('dcgan.py', create_gan, init_gan, gan_steps),
  'vae': ('vae.py', create_vae, init_vae, vae_steps),
}


def test_a_matrix_product_counts_two_operations_a_multiply_add():
  x, y = jnp.ones((5, 7)), jnp.ones((7, 11))
  assert count_flops(jax.jit(jnp.matmul).trace(x, y)) == 2 * 5 * 7 * 11


@pytest.mark.parametrize('features', [1, 16])
def test_a_convolution_counts_as_a_direct_one(features):
  """Whatever form runs here; taps beyond the edge of the image do not count."""
  x, w = jnp.ones((2, 8, 8, features)), jnp.ones((4, 4, features, 3))
  inside = (4 * 4 - 2) ** 2  # pairs of an output and a tap, of 4 x 4 a side
  flops = count_flops(jax.jit(conv.strided).trace(x, w))
  assert flops == 2 * 2 * inside * features * 3


def test_rates_are_those_of_the_step():
  rates = speed.Speed(128, 3e9, 4e10).rates(0.25)
  assert rates == {
    'images_per_second': 512,
    'step_milliseconds': 250,
    'model_gflops_per_second': 12,
    'matmul_rate_share': pytest.approx(0.3),
  }


def test_the_rate_of_a_product_is_positive(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  assert speed.matmul_flops_per_second(jnp.float32) > 1e8


def measured(family, parallelism):
  """The speed of a small step on all devices."""
  name, create, init, steps = FAMILIES[family]
  config = recipe(name, 'smoke')
  config.model.base_features = 4
  parallel = sharding.create(parallelism)
  model = create(config, SHAPE, axis=parallel.axis)
  root = prng.root_key(0)
  return speed.measure(
    jax.jit(functools.partial(steps.train_step, model), inline=True),
    jax.eval_shape(functools.partial(init, model), root),
    jax.ShapeDtypeStruct((1, BATCH, *SHAPE), np.uint8),
    root,
    parallel,
    images_per_step=BATCH,
    dtype=jnp.dtype('float32'),
  )


def test_a_step_that_is_debugged_without_jit_is_measured(monkeypatch):
  monkeypatch.setattr(speed, 'count_flops', count_flops)
  monkeypatch.setattr(speed, 'product_size', lambda: 16)
  speed.matmul_flops_per_second.cache_clear()
  step = jax.jit(lambda state, batch, root: (state @ batch, root))
  square = jax.ShapeDtypeStruct((4, 4), jnp.float32)
  with jax.disable_jit():
    found = speed.measure(
      step,
      square,
      square,
      prng.root_key(0),
      sharding.create('jit'),
      images_per_step=1,
      dtype=jnp.dtype('float32'),
    )
  speed.matmul_flops_per_second.cache_clear()
  assert found.flops_per_step == pytest.approx(2 * 4**3, rel=0.01)
  assert found.matmul_flops_per_second > 0


@pytest.mark.parametrize('family', ['gan', 'vae'])
def test_operations_are_those_of_the_whole_batch(family, monkeypatch):
  """A device's share under `pmap` is no smaller step to be counted."""
  monkeypatch.setattr(speed, 'count_flops', count_flops)
  monkeypatch.setattr(speed, 'matmul_flops_per_second', lambda unused: 1e9)
  whole, split = (measured(family, kind) for kind in ('jit', 'pmap'))
  assert whole.images_per_step == split.images_per_step == BATCH
  assert whole.matmul_flops_per_second == split.matmul_flops_per_second == 8e9
  # Means over devices add a few.
  assert split.flops_per_step == pytest.approx(whole.flops_per_step, rel=0.01)
