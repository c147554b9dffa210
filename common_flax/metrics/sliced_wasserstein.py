"""Sliced Wasserstein distance: how far apart projections of two sets lie.

Along a random direction sets are sorted numbers, whose distance is known in
closed form (Rabin et al. 2011; Bonneel et al. 2015): a second opinion that
needs no network.

Dimensions: N and M vectors, D coordinates, P projections.
"""

import numpy as np

_BLOCK = 64  # projections held at a time


def distance(
  x: np.ndarray, y: np.ndarray, *, num_projections: int, seed: int
) -> float:
  """Root mean square over random directions of the Wasserstein-2 distance.

  Args:
    x: [N, D].
    y: [M, D]; where N and M differ, quantiles at the middles of as many equal
      parts as the larger set has are compared.
    num_projections: P.
    seed: of the directions, uniform on the sphere.

  Returns:
    In the unit of the coordinates; of a shift by t it is near |t| / √D.

  Raises:
    ValueError: if the vectors have different numbers of coordinates.
  """
  if x.shape[1:] != y.shape[1:]:
    raise ValueError(f'vectors of {x.shape[1:]} and {y.shape[1:]} coordinates')
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
  """Sorted projections of [N, P], or quantiles of them, float64 [num, P]."""
  ordered = np.sort(projected.astype(np.float64), axis=0)
  if len(ordered) == num:
    return ordered
  ranks = (np.arange(num) + 0.5) * len(ordered) // num
  return ordered[ranks.astype(int)]
