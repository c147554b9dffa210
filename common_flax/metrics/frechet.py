"""Fréchet distance between two sets of features; with InceptionV3's, the FID.

A Gaussian is fitted to each set and the two are compared (Heusel et al. 2017,
arXiv:1706.08500). Computed in float64, because the small eigenvalues of the
covariances matter.

Dimensions: N images, F features.
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
  """Mean and covariance of a set of features."""

  mean: np.ndarray  # float64 [F]
  covariance: np.ndarray  # float64 [F, F], unbiased


def moments(features: np.ndarray) -> Moments:
  """Computes the mean and covariance of features [N, F].

  Raises:
    ValueError: if there are fewer than two features, or any is not finite.
  """
  if len(features) < 2:
    raise ValueError(f'a covariance needs two features, not {len(features)}')
  if not np.isfinite(features).all():
    raise ValueError('the features are not finite')
  features = np.asarray(features, np.float64)
  mean = features.mean(axis=0)
  centred = features - mean
  return Moments(mean, centred.T @ centred / (len(features) - 1))


def distance(a: Moments, b: Moments) -> float:
  """Computes $|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½)$, at least 0.

  The trace of the root equals that of $(Σ_a^½ Σ_b Σ_a^½)^½$. That matrix is
  symmetric and positive semi-definite, so its root is real at any rank.

  Raises:
    ValueError: if the features have different dimensions.
  """
  if a.mean.shape != b.mean.shape:
    raise ValueError(
      f'features of {len(a.mean)} and {len(b.mean)} dimensions cannot be '
      'compared'
    )
  root = _root(a.covariance)
  eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
  root_trace = np.sqrt(np.maximum(eigenvalues, 0)).sum()
  traces = np.trace(a.covariance) + np.trace(b.covariance)
  difference = a.mean - b.mean
  return max(0.0, float(difference @ difference + traces - 2 * root_trace))


def _root(covariance: np.ndarray) -> np.ndarray:
  """The symmetric square root of a covariance."""
  eigenvalues, vectors = np.linalg.eigh(covariance)
  return vectors * np.sqrt(np.maximum(eigenvalues, 0)) @ vectors.T
