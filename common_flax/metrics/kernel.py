"""Kernel distance between two sets of features; with InceptionV3's, the KID.

The squared maximum mean discrepancy under the kernel (x·y / F + 1)³ (Bińkowski
et al. 2018, arXiv:1801.01401). The estimate is unbiased for any number of
images, and may be negative if the distributions are equal.

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
  """Estimates the squared MMD on random subsets.

  Args:
    x: features [N, F].
    y: features [M, F].
    num_subsets: number of pairs of subsets.
    subset_size: drawn without replacement; at least 2, at most N and M.
    seed: of the subsets, which are those of torch-fidelity.

  Returns:
    The mean over subsets, and the standard deviation over them.

  Raises:
    ValueError: if `subset_size` is out of range.
  """
  if not 2 <= subset_size <= min(len(x), len(y)):
    raise ValueError(
      f'subsets of {subset_size} cannot be drawn from {len(x)} and {len(y)} '
      'features'
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
  """Unbiased estimate of the squared MMD between x [N, F] and y [M, F]."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * _kernel(x, y).mean()


def _mean_of_pairs(x: np.ndarray) -> float:
  """The kernel's mean over pairs of distinct features."""
  values = _kernel(x, x)
  return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return (x @ y.T / x.shape[1] + 1) ** 3
