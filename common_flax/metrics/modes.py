"""Mode coverage: which modes of a toy world samples reach, and how evenly.

The definitions are PacGAN's (Lin et al. 2018, arXiv:1712.04086, section 4.1):
a sample is of high quality if it lies within three standard deviations of the
nearest centre, and a mode is covered if one such sample lies there.

Dimensions: N samples, K modes.
"""

import math
from typing import NamedTuple

import numpy as np

from common_flax.data.worlds import World

_REACH = 3.0  # standard deviations


class Coverage(NamedTuple):
  """Mode coverage of some samples, or what is expected of perfect ones."""

  modes_covered: float  # of K
  high_quality_share: float  # of samples
  mode_kl_nats: float  # nan where no sample is of high quality


def coverage(points: np.ndarray, world: World) -> Coverage:
  """Counts samples by mode.

  Args:
    points: [N, 2] samples.
    world: where the modes are.

  Returns:
    `mode_kl_nats` is the divergence of the histogram of high-quality samples
    over modes from the uniform one: log K minus its entropy.
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
  """Which classes samples are of, and how evenly.

  Args:
    labels: int32 [N], the classes that a classifier gives them.
    num_classes: K.

  Returns:
    `modes_covered` and `mode_kl_nats`, as of `coverage`: PacGAN's measures of
    stacked images (Lin et al. 2018, section 4.2).
  """
  counts = np.bincount(labels, minlength=num_classes)
  return {
    'modes_covered': float(np.count_nonzero(counts)),
    'mode_kl_nats': _divergence_from_uniform(counts),
  }


def perfect_coverage(world: World, num_samples: int) -> Coverage:
  """What samples of the world itself are expected to score.

  Args:
    world: a mixture of isotropic Gaussians in the plane, far apart.
    num_samples: N, many more than there are modes. The divergence is that of
      chance, (K - 1) / 2N of the N samples of high quality.
  """
  num_modes = len(world.centres)
  share = 1 - math.exp(-(_REACH**2) / 2)  # of a Rayleigh distribution
  return Coverage(
    modes_covered=float(num_modes),
    high_quality_share=share,
    mode_kl_nats=(num_modes - 1) / (2 * num_samples * share),
  )
