"""Pixels of pictures of toy worlds."""

import numpy as np

from common_flax.data.worlds import WORLDS
from gan_flax import pictures

RING = WORLDS['ring']


def pixel(picture, x, y):
  """The colour at a point of the ring's world."""
  column, row = (0.5 + x / 2.8) * 256, (0.5 - y / 2.8) * 256
  return picture[int(row), int(column)].astype(int)


def test_samples_are_dots_at_their_coordinates():
  picture = pictures.picture(RING, np.array([[0.5, 1.2], [9.0, 9.0]]))
  assert picture.shape == (256, 256, 3)
  assert (pixel(picture, 0.5, 1.2) < 80).all()
  assert (pixel(picture, 0.5, -1.2) == 255).all()
  assert (pixel(picture, 1.0, 0.0) == 255).all()  # inside a mode's circle


def test_modes_are_circles():
  picture = pictures.picture(RING, np.zeros((0, 2)))
  for x, y in RING.centres:
    edge = pixel(picture, x + 4.8 * 2.8 / 256, y)
    assert edge[1] > edge[0] + 50
  assert (pixel(picture, 0.5, 0.5) == 255).all()


def test_the_surface_is_red_for_fake_and_blue_for_real():
  picture = pictures.picture(
    RING, np.zeros((0, 2)), lambda points: points[:, 1] > 0
  )
  red, _, blue = pixel(picture, 0.2, 0.3)
  assert blue > red
  red, _, blue = pixel(picture, 0.2, -0.3)
  assert red > blue


def test_colours_span_the_range_of_the_scores():
  """Scores may have any range; samples that are not finite are left out."""

  def scores(points):
    return 1000 + points[:, 0]

  picture = pictures.picture(
    RING, np.array([[np.nan, 0.0]]), scores, is_probability=False
  )
  left, right = pixel(picture, -1.3, 0.5), pixel(picture, 1.3, 0.5)
  assert left[0] > left[2] and right[2] > right[0]
  flat = pictures.picture(
    RING, np.zeros((0, 2)), lambda points: 0 * points[:, 0], False
  )
  assert (pixel(flat, 0, 0.5) == pixel(flat, 0.5, 0.5)).all()


def test_a_diverged_discriminator_is_drawn():
  def scores(points):
    return np.where(points[:, 0] > 0, np.inf, -3e38)

  picture = pictures.picture(RING, np.zeros((0, 2)), scores, False)
  assert picture.shape == (256, 256, 3)
