"""A small GAN, its batches, and its steps."""

import jax
import numpy as np

from common_flax import prng
from common_flax.data.batches import Labelled
from common_flax.distributed import sharding
from gan_flax import batches as batches_lib
from gan_flax import config as gan_config
from gan_flax import steps
from gan_flax.gan import create_gan
from gan_flax.state import init_state

SHAPE = (16, 16, 1)
BATCH = 16
NUM_CLASSES = 3


def create(dtype='float32', shape=SHAPE, axis=sharding.WHOLE_BATCH, **changes):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.base_features': 4,
      'model.latent_size': 8,
      'compute_dtype': dtype,
      **changes,
    }
  )
  return create_gan(config, shape, NUM_CLASSES, axis)


def initial_state(gan):
  return jax.jit(lambda: init_state(gan, prng.root_key(0)))()


def batches(num, updates=1, shape=SHAPE):
  random = np.random.default_rng(0)
  return random.integers(0, 256, (num, updates, BATCH, *shape), np.uint8)


def batches_for(gan, num):
  """Batches of `num` steps, with labels if the GAN is conditional."""
  all_images = batches(num, gan.discriminator_steps, gan.example_shape)
  if not gan.is_conditional:
    return all_images
  random = np.random.default_rng(1)
  shape = (num, gan.discriminator_steps, BATCH)
  all_labels = random.integers(0, NUM_CLASSES, shape, np.int32)
  return list(map(Labelled, all_images, all_labels))


def player_step(gan, player):
  """One player's update as a compiled (state, batch, key) -> (state, metrics).

  Args:
    gan: the static part.
    player: 'generator' or 'discriminator'.
  """
  update = getattr(steps, f'{player}_step')

  @jax.jit
  def step(state, batch, key):
    drawn = batches_lib.draw(gan, state.generator, batch, key)
    return update(gan, state, drawn)

  return step


def is_equal(a, b):
  """Whether the leaves of two pytrees are equal."""
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def assert_close(actual, expected, tolerance):
  """Arrays agree within `tolerance` of the largest value, at least of 1."""
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)
