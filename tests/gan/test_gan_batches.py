"""Real examples and latents as drawn, and as the discriminator sees them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_gan import create
from small_gan import SHAPE

from gan_flax import batches


def test_flips_mirror_about_half_of_the_real_images():
  batch = jnp.asarray(
    np.random.default_rng(0).integers(0, 256, (256, *SHAPE), np.uint8)
  )
  key = jax.random.key(0)
  plain = batches.real_examples(create(), batch, key)
  flipping = create(**{'dataset.flip': True})
  flipped = batches.real_examples(flipping, batch, key)
  mirrored = (flipped == plain[:, :, ::-1]).all((1, 2, 3))
  kept = (flipped == plain).all((1, 2, 3))
  assert (mirrored ^ kept).all()
  assert 90 < mirrored.sum() < 166


@pytest.mark.parametrize('distribution', ['normal', 'uniform'])
def test_latents_have_the_configured_distribution(distribution):
  gan = create(**{'model.latent_distribution': distribution})
  latents = np.asarray(batches.draw_latents(gan, jax.random.key(0), 20_000))
  variance = {'normal': 1, 'uniform': 1 / 3}[distribution]
  assert latents.shape == (20_000, 8)
  assert latents.mean() == pytest.approx(0, abs=0.01)
  assert latents.var() == pytest.approx(variance, rel=0.02)
  assert (np.abs(latents) <= 1).all() == (distribution == 'uniform')


def test_truncated_latents_have_the_truncated_variance():
  """The variance of N(0, 1) between -1 and 1 is 1 - 2 n(1) / P(|z| < 1)."""
  gan = create()
  latents = np.asarray(
    batches.draw_latents(gan, jax.random.key(0), 20_000, 1.0)
  )
  density = np.exp(-0.5) / np.sqrt(2 * np.pi)
  assert np.abs(latents).max() <= 1
  assert latents.var() == pytest.approx(1 - 2 * density / 0.682689, rel=0.02)


def test_truncated_uniform_latents_span_the_limit():
  gan = create(**{'model.latent_distribution': 'uniform'})
  for limit, largest in ((0.5, 0.5), (3.0, 1.0)):
    latents = batches.draw_latents(gan, jax.random.key(0), 5_000, limit)
    assert np.abs(latents).max() == pytest.approx(largest, rel=0.01)


def test_a_pack_joins_the_channels_of_neighbours():
  images = np.arange(4 * 2 * 3 * 2).reshape(4, 2, 3, 2)
  packs = batches.pack(images, 2)
  assert packs.shape == (2, 2, 3, 4)
  np.testing.assert_array_equal(packs[1, ..., :2], images[2])
  np.testing.assert_array_equal(packs[1, ..., 2:], images[3])
  np.testing.assert_array_equal(batches.pack(images, 1), images)


def test_a_pack_of_points_joins_their_coordinates():
  points = np.arange(12).reshape(6, 2)
  np.testing.assert_array_equal(batches.pack(points, 3), points.reshape(2, 6))


def test_real_and_fake_are_augmented_independently():
  gan = create(**{'augmentation.color': True})
  same = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, *SHAPE)))
  real, fake = batches.shown(gan, jax.random.key(0), same, same)
  assert np.abs(real - fake).max() > 0.1
  real, fake = batches.shown(create(), jax.random.key(0), same, same)
  np.testing.assert_array_equal(real, fake)
