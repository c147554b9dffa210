"""Real and generated examples, as the two players draw and see them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_flax import config as gan_config
from gan_flax import examples
from gan_flax.state import create_gan

SHAPE = (16, 16, 1)


def create(**changes):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {'model.base_features': 4, 'model.latent_size': 8, **changes}
  )
  return create_gan(config, SHAPE)


def test_flips_mirror_about_half_of_the_real_images():
  batch = jnp.asarray(
    np.random.default_rng(0).integers(0, 256, (256, *SHAPE), np.uint8)
  )
  key = jax.random.key(0)
  plain = examples.real(create(), batch, key, None)
  flipped = examples.real(create(**{'dataset.flip': True}), batch, key, None)
  mirrored = (flipped == plain[:, :, ::-1]).all((1, 2, 3))
  kept = (flipped == plain).all((1, 2, 3))
  assert (mirrored ^ kept).all()
  assert 90 < mirrored.sum() < 166


@pytest.mark.parametrize('distribution', ['normal', 'uniform'])
def test_latents_have_the_distribution_asked_for(distribution):
  gan = create(**{'model.latent_distribution': distribution})
  latents = np.asarray(examples.draw_latents(gan, jax.random.key(0), 20_000))
  variance = {'normal': 1, 'uniform': 1 / 3}[distribution]
  assert latents.shape == (20_000, 8)
  assert latents.mean() == pytest.approx(0, abs=0.01)
  assert latents.var() == pytest.approx(variance, rel=0.02)
  assert (np.abs(latents) <= 1).all() == (distribution == 'uniform')


def test_truncated_latents_are_those_of_the_middle():
  """The variance of N(0, 1) between -1 and 1 is 1 - 2 n(1) / P(|z| < 1)."""
  gan = create()
  latents = np.asarray(
    examples.draw_latents(gan, jax.random.key(0), 20_000, 1.0)
  )
  density = np.exp(-0.5) / np.sqrt(2 * np.pi)
  assert np.abs(latents).max() <= 1
  assert latents.var() == pytest.approx(1 - 2 * density / 0.682689, rel=0.02)


def test_truncated_uniform_latents_span_the_limit():
  gan = create(**{'model.latent_distribution': 'uniform'})
  for limit, largest in ((0.5, 0.5), (3.0, 1.0)):
    latents = examples.draw_latents(gan, jax.random.key(0), 5_000, limit)
    assert np.abs(latents).max() == pytest.approx(largest, rel=0.01)


def test_a_pack_is_neighbours_channel_by_channel():
  images = np.arange(4 * 2 * 3 * 2).reshape(4, 2, 3, 2)
  packs = examples.pack(images, 2)
  assert packs.shape == (2, 2, 3, 4)
  np.testing.assert_array_equal(packs[1, ..., :2], images[2])
  np.testing.assert_array_equal(packs[1, ..., 2:], images[3])
  np.testing.assert_array_equal(examples.pack(images, 1), images)


def test_a_pack_of_points_is_their_coordinates_in_turn():
  points = np.arange(12).reshape(6, 2)
  np.testing.assert_array_equal(examples.pack(points, 3), points.reshape(2, 6))


def test_real_and_fake_are_distorted_apart():
  gan = create(**{'augmentation.color': True})
  same = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, *SHAPE)))
  real, fake = examples.shown(gan, jax.random.key(0), same, same, None)
  assert np.abs(real - fake).max() > 0.1
  real, fake = examples.shown(create(), jax.random.key(0), same, same, None)
  np.testing.assert_array_equal(real, fake)
