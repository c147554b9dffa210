"""Kernel distance: written out, and without bias."""

import numpy as np
import pytest

from common_flax.metrics import kernel


def unrolled(x, y):
  def k(a, b):
    return (a @ b / len(a) + 1) ** 3

  n, m = len(x), len(y)
  own = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
  other = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
  cross = sum(k(a, b) for a in x for b in y)
  return own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * cross / (n * m)


def test_it_is_the_papers_estimate():
  random = np.random.default_rng(0)
  x, y = random.normal(size=(6, 4)), random.normal(1, 2, (9, 4))
  assert kernel.squared_mmd(x, y) == pytest.approx(unrolled(x, y), rel=1e-12)


def test_equal_laws_are_at_no_distance_on_average():
  random = np.random.default_rng(0)
  found = [
    kernel.squared_mmd(*random.normal(size=(2, 20, 3))) for _ in range(2000)
  ]
  error = np.std(found) / np.sqrt(len(found))
  assert abs(np.mean(found)) < 4 * error
  assert min(found) < 0 < max(found)


def test_subsets_of_everything_are_everything():
  random = np.random.default_rng(0)
  x, y = random.normal(size=(2, 12, 3))
  mean, deviation = kernel.distance(x, y, num_subsets=3, subset_size=12, seed=0)
  assert mean == pytest.approx(kernel.squared_mmd(x, y), rel=1e-9)
  assert deviation == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('size', [1, 13])
def test_subsets_that_cannot_be_drawn_are_refused(size):
  x = np.zeros((12, 3))
  with pytest.raises(ValueError, match=f'subsets of {size}'):
    kernel.distance(x, x, num_subsets=1, subset_size=size, seed=0)
