"""Fréchet distance of two sets of features, the FID in those of InceptionV3.

Heusel et al. (2017, arXiv:1706.08500): each set is summed up by a Gaussian, and
these are compared. In float64: a covariance's small eigenvalues matter.

Dimensions: N images, F features.
"""

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
  """What is kept of a set of features."""

  mean: np.ndarray  # float64 [F]
  covariance: np.ndarray  # float64 [F, F], unbiased


def moments(features: np.ndarray) -> Moments:
  """The mean and covariance of features [N, F].

  Raises:
    ValueError: if there are fewer than two, or not all are finite.
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
  """|μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½), at least 0.

  The trace of the root is that of (Σa^½ Σb Σa^½)^½, the root of a symmetric
  matrix: no roots of negative eigenvalues, whatever the rank.

  Raises:
    ValueError: if the features are of different dimensions.
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
  """The symmetric square root of a symmetric matrix."""
  eigenvalues, vectors = np.linalg.eigh(covariance)
  return vectors * np.sqrt(np.maximum(eigenvalues, 0)) @ vectors.T
