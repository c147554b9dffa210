"""Augmentations and their gradients against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_flax.augmentation import diffaugment

IMAGES = np.random.default_rng(0).uniform(-1, 1, (300, 16, 16, 3))
KEY = jax.random.key(5)


def distorted(distort, images=IMAGES):
  with jax.enable_x64(True):
    return np.asarray(jax.jit(distort)(KEY, images))


def test_colour_jitter_is_that_of_numpy():
  """Brightness, then saturation, then contrast about the mean."""
  with jax.enable_x64(True):
    b, s, c = (
      np.asarray(jax.random.uniform(key, (300, 1, 1, 1), jnp.float64))
      for key in jax.random.split(KEY, 3)
    )
  x = IMAGES + b - 0.5
  grey = x.mean(axis=3, keepdims=True)
  x = grey + 2 * s * (x - grey)
  mean = x.mean(axis=(1, 2, 3), keepdims=True)
  x = mean + (c + 0.5) * (x - mean)
  np.testing.assert_allclose(distorted(diffaugment.color), x, atol=1e-12)
  assert b.std() == pytest.approx(12**-0.5, rel=0.1)


def test_translation_shifts_images_over_grey():
  """Every shift of up to 2 pixels occurs; uncovered pixels are grey."""
  moved = distorted(diffaugment.translation)
  padded = np.pad(IMAGES, ((0, 0), (2, 2), (2, 2), (0, 0)))
  seen = set()
  for original, image in zip(padded, moved, strict=True):
    places = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if np.array_equal(original[i : i + 16, j : j + 16], image)
    ]
    assert len(places) == 1
    seen |= set(places)
  assert len(seen) == 25


@pytest.mark.parametrize(('size', 'length'), [(16, 8), (14, 7), (7, 4)])
def test_cutout_leaves_a_grey_rectangle(size, length):
  images = IMAGES[:, :size, :size]
  cut = distorted(diffaugment.cutout, images)
  for original, image in zip(images, cut, strict=True):
    hidden = (image == 0).all(axis=2)
    np.testing.assert_array_equal(image[~hidden], original[~hidden])
    rows, columns = hidden.any(axis=1), hidden.any(axis=0)
    np.testing.assert_array_equal(hidden, rows[:, None] & columns)
    for side in (rows, columns):  # whole, or cropped by the image's edge
      (places,) = np.nonzero(side)
      assert len(places) == np.ptp(places) + 1 <= length
      assert len(places) == length or side[0] or side[-1]
      assert len(places) >= (length + 1) // 2


@pytest.mark.parametrize('name', ['color', 'translation', 'cutout'])
def test_gradients_are_those_of_an_affine_map(name):
  """All three are affine in the image, so a difference is the derivative."""
  distort = getattr(diffaugment, name)
  with jax.enable_x64(True):
    images = jnp.asarray(IMAGES[:4])
    direction = jnp.asarray(IMAGES[4:8])
    _, slope = jax.jvp(lambda x: distort(KEY, x), (images,), (direction,))
    change = distort(KEY, images + direction) - distort(KEY, images)
  np.testing.assert_allclose(slope, change, atol=1e-12)
  assert np.abs(slope).max() > 0


def test_only_enabled_augmentations_are_applied():
  x = jnp.asarray(IMAGES[:8], jnp.float32)
  same = diffaugment.DiffAugment(False, False, False)(KEY, x)
  np.testing.assert_array_equal(same, x)
  cut = diffaugment.DiffAugment(False, False, True)(KEY, x)
  expected = diffaugment.cutout(jax.random.split(KEY, 3)[2], x)
  np.testing.assert_array_equal(cut, expected)
