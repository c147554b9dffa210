"""Images on their way to InceptionV3."""

import numpy as np
import PIL.Image
import pytest

from common_flax.metrics import resizing


def noise(height, width, channels=3):
  random = np.random.default_rng(0)
  return random.integers(0, 256, (2, height, width, channels), np.uint8)


@pytest.mark.parametrize('name', ['clean', 'legacy'])
@pytest.mark.parametrize('side', [40, 299])
def test_grey_is_colour_without_any(name, side):
  grey = noise(side, side, 1)
  resize = resizing.RESIZES[name]
  found = np.asarray(resize(grey))
  assert found.shape == (2, 299, 299, 3)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, resize(grey.repeat(3, axis=-1)))


def test_images_of_the_right_size_are_not_resized():
  images = noise(299, 299)
  found = np.asarray(resizing.clean(images))
  np.testing.assert_array_equal(found, (images.astype(np.float32) - 128) / 128)
  found = np.asarray(resizing.legacy(images))
  np.testing.assert_allclose(found, images / 127.5 - 1, atol=1e-6)


def test_clean_is_bicubic_without_rounding():
  images = 100 + noise(50, 70) // 5  # so that no step clips
  found = np.asarray(resizing.clean(images))[0] * 128 + 128
  rounded = PIL.Image.fromarray(images[0]).resize((299, 299), 3)
  np.testing.assert_allclose(found, np.asarray(rounded), atol=1.2)
  assert not np.array_equal(found, found.round())


def test_legacy_is_bilinear_between_centres():
  """Of two columns, a ramp between their centres, and flat beyond."""
  images = np.zeros((1, 2, 2, 1), np.uint8)
  images[:, :, 1] = 255
  found = np.asarray(resizing.legacy(images))[0, 0, :, 0]
  centres = (np.arange(299) + 0.5) * 2 / 299 - 0.5
  expected = 2 * np.clip(centres, 0, 1) - 1
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_legacy_skips_pixels_where_it_shrinks():
  """It looks at two neighbours alone, which aliases; clean does not."""
  stripes = np.zeros((1, 598, 598, 1), np.uint8)
  stripes[:, :, ::4] = 255
  assert np.asarray(resizing.legacy(stripes)).std() > 0.45
  assert np.asarray(resizing.clean(stripes)).std() < 0.4
