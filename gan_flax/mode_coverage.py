"""Mode coverage: which modes the samples reach, and how evenly.

The definitions are PacGAN's (Lin et al. 2018, arXiv:1712.04086, section 4.1):
a sample is of high quality if it lies within three standard deviations of the
nearest mode's centre, and a mode is covered if it has a high-quality sample.

Dimensions: N samples, K modes.
"""

import math
from typing import NamedTuple

import numpy as np

from common_flax.data.worlds import World

_REACH = 3.0  # standard deviations


class Coverage(NamedTuple):
  """Mode coverage of samples, or its expectation for perfect samples."""

  modes_covered: float  # of K
  high_quality_share: float  # of samples
  mode_kl_nats: float  # nan if no sample is of high quality


def coverage(points: np.ndarray, world: World) -> Coverage:
  """Computes the mode coverage of samples of a toy world.

  `mode_kl_nats` is the KL divergence from the uniform distribution of the
  histogram of high-quality samples over modes: log K minus its entropy.

  Args:
    points: samples [N, 2].
    world: the mixture of Gaussians whose modes are counted.
  """
  centres = np.asarray(world.centres)
  offsets = np.asarray(points, np.float64)[:, None] - centres
  distances = np.linalg.norm(offsets, axis=-1) / world.deviation  # [N, K]
  is_good = distances.min(axis=1) < _REACH
  counts = np.bincount(
    distances.argmin(axis=1)[is_good], minlength=len(centres)
  )
  return Coverage(
    modes_covered=float(np.count_nonzero(counts)),
    high_quality_share=float(is_good.mean()),
    mode_kl_nats=_divergence_from_uniform(counts),
  )


def _divergence_from_uniform(counts: np.ndarray) -> float:
  if not counts.any():
    return math.nan
  shares = counts[counts > 0] / counts.sum()
  return float(np.sum(shares * np.log(shares * len(counts))))


def class_coverage(labels: np.ndarray, num_classes: int) -> dict[str, float]:
  """Computes the coverage of classes, as PacGAN does for stacked images.

  Lin et al. (2018, section 4.2).

  Args:
    labels: int32 [N], a classifier's predictions for the samples.
    num_classes: K.

  Returns:
    `modes_covered` and `mode_kl_nats`, see `coverage`.
  """
  counts = np.bincount(labels, minlength=num_classes)
  return {
    'modes_covered': float(np.count_nonzero(counts)),
    'mode_kl_nats': _divergence_from_uniform(counts),
  }


def perfect_coverage(world: World, num_samples: int) -> Coverage:
  """Expected mode coverage of samples from the world itself.

  The expected divergence is that of sampling noise, (K - 1) / 2n for n samples
  of high quality.

  Args:
    world: a mixture of well-separated isotropic Gaussians in the plane.
    num_samples: N, much larger than the number of modes.
  """
  num_modes = len(world.centres)
  share = 1 - math.exp(-(_REACH**2) / 2)  # of a Rayleigh distribution
  return Coverage(
    modes_covered=float(num_modes),
    high_quality_share=share,
    mode_kl_nats=(num_modes - 1) / (2 * num_samples * share),
  )
