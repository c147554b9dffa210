"""Neighbours of features: against every pair, whatever the tiles."""

import numpy as np
import pytest

from common_flax.metrics import neighbours
from common_flax.metrics.neighbours import ManifoldMetrics


def distances(x, y):
  return np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=-1)


def of_all_pairs(real, generated, k):
  real_radii = np.sort(distances(real, real), axis=1)[:, k]
  generated_radii = np.sort(distances(generated, generated), axis=1)[:, k]
  between = distances(real, generated)
  within = between < real_radii[:, None]
  return ManifoldMetrics(
    precision=within.any(axis=0).mean(),
    recall=(between < generated_radii).any(axis=1).mean(),
    density=within.sum(axis=0).mean() / k,
    coverage=within.any(axis=1).mean(),
  )


def features(num, size, mean, seed):
  random = np.random.default_rng(seed)
  return random.normal(mean, 1, (num, size)).astype(np.float32)


@pytest.mark.parametrize(
  ('num', 'other', 'size'), [(300, 200, 3), (60, 90, 40), (20, 7, 2)]
)
@pytest.mark.parametrize('k', [1, 5])
def test_it_is_what_all_pairs_say(num, other, size, k):
  # Far from the origin, where squares would lose their digits.
  real, generated = features(num, size, 100, 0), features(other, size, 100.5, 1)
  found = neighbours.manifold_metrics(real, generated, num_neighbours=k)
  assert found == pytest.approx(of_all_pairs(real, generated, k), abs=1e-12)


@pytest.mark.parametrize(('rows', 'columns'), [(7, 16), (64, 5), (1000, 1000)])
def test_the_size_of_a_tile_does_not_matter(monkeypatch, rows, columns):
  real, generated = features(100, 4, 0, 0), features(70, 4, 0.5, 1)
  expected = neighbours.manifold_metrics(real, generated, num_neighbours=3)
  nearest = neighbours.nearest(generated, real)
  monkeypatch.setattr(neighbours, '_ROWS', rows)
  monkeypatch.setattr(neighbours, '_COLUMNS', columns)
  assert expected == neighbours.manifold_metrics(
    real, generated, num_neighbours=3
  )
  for x, y in zip(nearest, neighbours.nearest(generated, real), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-9)


def test_equal_features_are_counted_each():
  """Three of the same are each other's first and second neighbours."""
  real = np.array([[0.0], [0], [0], [1], [5]])
  generated = np.array([[0.5], [1.5], [9]])
  found = neighbours.manifold_metrics(real, generated, num_neighbours=2)
  assert found == pytest.approx(of_all_pairs(real, generated, 2))


def test_an_edge_lies_outside():
  real = np.array([[0.0], [1], [2]])
  generated = np.array([[3.0], [4], [5]])
  found = neighbours.manifold_metrics(real, generated, num_neighbours=1)
  assert found == ManifoldMetrics(0, 0, 0, 0)


def test_a_set_against_itself():
  """Its own balls' edges are its neighbours, which lie outside."""
  x = features(80, 6, 0, 0)
  found = neighbours.manifold_metrics(x, x, num_neighbours=4)
  assert found == ManifoldMetrics(1, 1, 1, 1)


def test_a_dropped_mode_is_not_covered():
  real = np.concatenate([features(50, 2, 0, 0), features(50, 2, 50, 1)])
  found = neighbours.manifold_metrics(
    real, features(100, 2, 0, 2), num_neighbours=3
  )
  assert found.precision > 0.8
  assert found.recall <= 0.5
  assert found.coverage <= 0.5


def test_the_nearest_of_all_pairs():
  points, queries = features(70, 5, 0, 0), features(33, 5, 0, 1)
  found, indices = neighbours.nearest(queries, points)
  between = distances(queries, points)
  np.testing.assert_allclose(found, between.min(axis=1), rtol=1e-9)
  np.testing.assert_array_equal(indices, between.argmin(axis=1))


def test_what_cannot_be_compared_is_refused():
  x = features(6, 3, 0, 0)
  with pytest.raises(ValueError, match='6 neighbours need more than'):
    neighbours.manifold_metrics(x, x, num_neighbours=6)
  with pytest.raises(ValueError, match='2 and 3 dimensions'):
    neighbours.nearest(x, x[:, :2])
  with pytest.raises(ValueError, match='not finite'):
    neighbours.nearest(np.full((2, 3), np.nan), x)
