"""Fréchet distance: closed forms."""

import numpy as np
import pytest

from common_flax.metrics import frechet
from common_flax.metrics.frechet import Moments


def features(num, size, seed=0):
  random = np.random.default_rng(seed)
  return random.normal(size=(num, size)) @ random.normal(size=(size, size)) + 7


def test_moments_are_numpys():
  x = features(50, 6)
  found = frechet.moments(x.astype(np.float32))
  assert found.mean.dtype == found.covariance.dtype == np.float64
  np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-5)


@pytest.mark.parametrize(('num', 'size'), [(200, 10), (8, 20)])
def test_a_set_has_no_distance_from_itself(num, size):
  found = frechet.moments(features(num, size))
  distance = frechet.distance(found, found)
  assert 0 <= distance < 1e-7 * np.trace(found.covariance)


def test_the_standard_gaussian_from_another():
  """|m|² + d (s - 1)²."""
  m, s, d = np.array([1.0, -2.0, 0.5]), 1.7, 3
  found = frechet.distance(
    Moments(np.zeros(d), np.eye(d)), Moments(m, s**2 * np.eye(d))
  )
  assert found == pytest.approx(m @ m + d * (s - 1) ** 2, rel=1e-12)


def test_it_is_symmetric_and_blind_to_rotations():
  a, b = features(100, 5), features(40, 5, seed=1)
  q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))
  expected = frechet.distance(frechet.moments(a), frechet.moments(b))
  for x, y in ((b, a), (a @ q, b @ q)):
    found = frechet.distance(frechet.moments(x), frechet.moments(y))
    assert found == pytest.approx(expected, rel=1e-9)


def test_covariances_of_few_images_have_a_root():
  """Of fewer images than features; the distance of their Gaussians' lines."""
  a = np.array([[0.0, 0, 0], [2, 0, 0]])
  b = np.array([[0.0, 0, 0], [0, 4, 0]])
  found = frechet.distance(frechet.moments(a), frechet.moments(b))
  assert found == pytest.approx((1 + 4) + (2 + 8), rel=1e-12)


@pytest.mark.parametrize(
  ('x', 'words'),
  [(np.ones((1, 3)), 'two features'), (np.full((3, 2), np.nan), 'finite')],
)
def test_what_has_no_moments_is_refused(x, words):
  with pytest.raises(ValueError, match=words):
    frechet.moments(x)


def test_features_of_other_networks_are_refused():
  moments = [frechet.moments(features(9, size)) for size in (2, 3)]
  with pytest.raises(ValueError, match='2 and 3 dimensions'):
    frechet.distance(*moments)
