"""What the explorer shows of a GAN, apart from its page."""

import jax
import numpy as np
import pytest
from small_gan import create
from small_gan import initial_state

from gan_flax import config as gan_config
from gan_flax.explorer import shown
from gan_flax.trained import Sampler


def sampler(**changes):
  gan = create(**changes)
  state = initial_state(gan)
  net = state.generator
  config = gan_config.default()
  return Sampler(gan, net.params, net.batch_stats, config, 0, 0), state


def test_directions_are_those_of_the_largest_change_in_the_first_layer():
  trained, _ = sampler()
  found = shown.directions(trained)
  np.testing.assert_allclose(found @ found.T, np.eye(8), atol=0.2)
  kernel = np.asarray(trained.params['project']['kernel'])
  # Of a linear layer, they are the right singular vectors.
  strengths = np.linalg.norm(found @ kernel, axis=1)
  singular = np.linalg.svd(kernel, compute_uv=False)
  np.testing.assert_allclose(strengths, singular, rtol=0.1)


@pytest.mark.parametrize('conditioning', ['none', 'projection'])
def test_the_discriminator_has_an_opinion(conditioning):
  trained, state = sampler(**{'model.conditioning': conditioning})
  image = np.full(trained.gan.example_shape, 99, np.uint8)
  label = None if conditioning == 'none' else 1
  value = shown.opinion(trained.gan, state.discriminator, image, label)
  assert 0 < value < 1


def test_a_single_image_is_that_of_a_batch():
  trained, _ = sampler()
  z = np.asarray(jax.random.normal(jax.random.key(0), (3, 8)))
  one = shown.images_of(trained, z[1:2], None)
  of_three = shown.images_of(trained, z, None)
  gap = one[0].astype(int) - of_three[1]
  assert np.abs(gap).max() <= 1


def test_the_nearest_images_come_first():
  images = np.zeros((600, 2, 2, 1), np.uint8)
  images[:] = 255
  images[512], images[3] = 10, 20
  order, rmse = shown.nearest(images, np.full((2, 2, 1), 12, np.uint8), 2)
  np.testing.assert_array_equal(order, [512, 3])
  np.testing.assert_allclose(rmse, [2, 8])


def test_a_mix_is_as_long_as_its_first_part():
  a, b, c = np.eye(3, dtype=np.float32) * 3
  mixed = shown.arithmetic(a, b, c)
  np.testing.assert_allclose(np.linalg.norm(mixed), 3, rtol=1e-6)
  assert mixed[1] < 0 < mixed[2]
  np.testing.assert_array_equal(shown.arithmetic(a, a, 0 * a), a)


def test_a_walk_leads_through_its_stops():
  stops = np.eye(3, dtype=np.float32)
  for place, stop in ((0, 0), (0.5, 1), (1, 2)):
    walked = shown.along_walk(stops, place)
    np.testing.assert_allclose(walked, stops[stop], atol=1e-6)
