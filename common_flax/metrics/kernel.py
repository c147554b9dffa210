"""Kernel distance of two sets of features, the KID in those of InceptionV3.

Bińkowski et al. (2018, arXiv:1801.01401): the squared maximum mean discrepancy
under the kernel (x·y / F + 1)³. The estimate has no bias, however few images
there are, and may be negative where there is no difference.

Dimensions: N and M images, F features.
"""

import numpy as np


def distance(
  x: np.ndarray,
  y: np.ndarray,
  *,
  num_subsets: int,
  subset_size: int,
  seed: int,
) -> tuple[float, float]:
  """The mean over random subsets, and the standard deviation over them.

  Args:
    x: features [N, F].
    y: features [M, F].
    num_subsets: how many pairs of subsets are drawn.
    subset_size: of each, drawn without replacement; at least 2, at most N and
      M.
    seed: of the subsets, which are torch-fidelity's.

  Raises:
    ValueError: if a subset is larger than a set, or too small.
  """
  if not 2 <= subset_size <= min(len(x), len(y)):
    raise ValueError(
      f'subsets of {subset_size} cannot be drawn of {len(x)} and {len(y)}'
    )
  random = np.random.RandomState(seed)
  estimates = [
    squared_mmd(
      x[random.choice(len(x), subset_size, replace=False)],
      y[random.choice(len(y), subset_size, replace=False)],
    )
    for _ in range(num_subsets)
  ]
  return float(np.mean(estimates)), float(np.std(estimates))


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
  """The unbiased estimate from two sets of features, [N, F] and [M, F]."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel(x, y).mean()


def _mean_of_pairs(x: np.ndarray) -> float:
  """The kernel's mean over pairs of different features."""
  values = _kernel(x, x)
  return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return (x @ y.T / x.shape[1] + 1) ** 3
