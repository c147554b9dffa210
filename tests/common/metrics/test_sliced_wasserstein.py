"""Sliced Wasserstein distance: closed forms."""

import numpy as np
import pytest

from common_flax.metrics import sliced_wasserstein


def distance(x, y, num_projections=200):
  return sliced_wasserstein.distance(
    x, y, num_projections=num_projections, seed=0
  )


def points(num, size, seed=0):
  return np.random.default_rng(seed).normal(size=(num, size))


def test_a_set_in_another_order_is_at_no_distance():
  x = points(50, 6)
  assert distance(x, x[::-1]) == pytest.approx(0, abs=1e-12)


def test_a_shift():
  """The mean square of a unit vector's coordinate is 1 / D."""
  x, shift = points(30, 8), np.full(8, 0.5)
  expected = np.linalg.norm(shift) / np.sqrt(8)
  assert distance(x, x + shift, 20_000) == pytest.approx(expected, rel=0.02)


def test_one_dimension_is_sorted():
  x, y = points(40, 1), 3 * points(40, 1, seed=1) + 2
  expected = np.sqrt(np.mean((np.sort(x, axis=0) - np.sort(y, axis=0)) ** 2))
  assert distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_each_as_often_is_the_same_set():
  x = points(20, 4)
  assert distance(x, np.repeat(x, 3, axis=0)) == pytest.approx(0, abs=1e-12)


def test_vectors_of_other_sizes_are_refused():
  with pytest.raises(ValueError, match='cannot be compared'):
    distance(points(5, 2), points(5, 3))
