"""Sliced Wasserstein distance between two sets of vectors.

In one dimension the Wasserstein distance has a closed form, the distance
between the sorted values, so it is computed along random directions (Rabin et
al. 2011; Bonneel et al. 2015). It needs no network.

Dimensions: N and M vectors, D coordinates, P projections.
"""

import numpy as np

_BLOCK = 64  # projections in memory at a time


def distance(
  x: np.ndarray, y: np.ndarray, *, num_projections: int, seed: int
) -> float:
  """Root mean square of the Wasserstein-2 distance over random directions.

  If N and M differ, max(N, M) quantiles of each set are compared.

  Args:
    x: [N, D].
    y: [M, D].
    num_projections: P.
    seed: of the directions, which are uniform on the sphere.

  Returns:
    The distance in the unit of the coordinates; about |t| / √D between a set
    and the same set shifted by t.

  Raises:
    ValueError: if the vectors have different dimensions.
  """
  if x.shape[1:] != y.shape[1:]:
    raise ValueError(
      f'vectors of shapes {x.shape[1:]} and {y.shape[1:]} cannot be compared'
    )
  random = np.random.default_rng(seed)
  directions = random.standard_normal((x.shape[1], num_projections))
  directions /= np.linalg.norm(directions, axis=0)
  directions = directions.astype(x.dtype)
  num = max(len(x), len(y))
  squares = []
  for start in range(0, num_projections, _BLOCK):
    block = directions[:, start : start + _BLOCK]
    difference = _quantiles(x @ block, num) - _quantiles(y @ block, num)
    squares.append(np.mean(difference**2, axis=0))
  return float(np.sqrt(np.mean(np.concatenate(squares))))


def _quantiles(projected: np.ndarray, num: int) -> np.ndarray:
  """Sorted projections [N, P], resampled to `num` quantiles: [num, P]."""
  ordered = np.sort(projected.astype(np.float64), axis=0)
  if len(ordered) == num:
    return ordered
  ranks = (np.arange(num) + 0.5) * len(ordered) // num
  return ordered[ranks.astype(int)]
