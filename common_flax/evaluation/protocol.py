"""Scores a set of images against a set of real ones, in feature space.

Metrics are requested by name; METRICS lists the numbers that each one reports:

  fid                Fréchet distance between Gaussians fitted to the features
  kid                squared maximum mean discrepancy, with its standard
                     deviation over subsets
  inception_score    confidence and diversity of the predicted classes
  precision, recall  share of samples on the real manifold, and the reverse
  density, coverage  variants of both that are robust to outliers
  nearest            distance to the nearest training image, relative to that
                     of held-out images: the ratio of the medians, and the
                     share of samples closer than the closest 1% of held-out
                     images
  sliced_wasserstein root mean square Wasserstein distance between random
                     projections of the pixels in [0, 1]; needs no network

Dimensions: N images, H height, W width, C channels, F features.
"""

import dataclasses
from typing import Any
from typing import NamedTuple

import numpy as np

from common_flax import images as images_lib
from common_flax.errors import UserError
from common_flax.metrics import features as features_lib
from common_flax.metrics import frechet
from common_flax.metrics import inception_score
from common_flax.metrics import kernel
from common_flax.metrics import neighbours
from common_flax.metrics import sliced_wasserstein
from common_flax.metrics.features import Activations
from common_flax.metrics.features import Extractor

# The numbers that each metric reports, the main one first.
METRICS = {
  'fid': ('fid',),
  'kid': ('kid', 'kid_standard_deviation'),
  'inception_score': (
    'inception_score',
    'inception_score_standard_deviation',
  ),
  'precision': ('precision',),
  'recall': ('recall',),
  'density': ('density',),
  'coverage': ('coverage',),
  'nearest': ('nearest_train_ratio', 'memorised_share'),
  'sliced_wasserstein': ('sliced_wasserstein',),
}
MANIFOLD = ('precision', 'recall', 'density', 'coverage')
_KID_NUM_SUBSETS = 100  # torch-fidelity's default
_KID_SUBSET_SIZE = 1000
_NUM_SPLITS = 10  # of the inception score (Salimans et al. 2016)
_NUM_PROJECTIONS = 512
_SEED = 2020  # for subsets, splits and projections; torch-fidelity's default
_MEMORISED_QUANTILE = 0.01  # of held-out distances to the training images
_NUM_PAIRS = 32  # samples beside their nearest training images
_PAIRS_PER_ROW = 8

DEFAULT_NEIGHBOURS = 5  # Naeem et al. (2020)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """Which metrics are computed, and with which settings."""

  metrics: tuple[str, ...]  # names from METRICS
  num_neighbours: int  # k of precision, recall, density and coverage

  def provenance(self, num_samples: int, num_real: int) -> dict[str, Any]:
    """Settings that the metrics depend on, for a report."""
    settings = {'metrics': list(self.metrics)}
    if any(name in self.metrics for name in MANIFOLD):
      settings['num_neighbours'] = self.num_neighbours
    if 'kid' in self.metrics:
      settings['kid_num_subsets'] = _KID_NUM_SUBSETS
      settings['kid_subset_size'] = _kid_subset_size(num_samples, num_real)
    if 'inception_score' in self.metrics:
      settings['inception_score_num_splits'] = _NUM_SPLITS
    if 'sliced_wasserstein' in self.metrics:
      settings['num_projections'] = _NUM_PROJECTIONS
    return settings


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFeatures:
  """Images with a network's activations on them."""

  images: np.ndarray  # uint8 [N, H, W, C]
  activations: Activations

  def __len__(self) -> int:
    return len(self.images)

  @property
  def features(self) -> np.ndarray:
    """float32 [N, F]."""
    return self.activations.features

  def subset(self, indices: slice | np.ndarray) -> 'ImageFeatures':
    """The images at the indices, with their activations."""
    parts = (x if x is None else x[indices] for x in self.activations)
    return ImageFeatures(self.images[indices], Activations(*parts))


class Scores(NamedTuple):
  """How a set of samples scored."""

  metrics: dict[str, Any]  # numbers, or lists of them
  # Samples beside their nearest training images, uint8 [H', W', C]; None unless
  # 'nearest' was requested.
  picture: np.ndarray | None = None
  # What was scored, where the caller may save it: images or points [N, ...],
  # and the requested classes int32 [N].
  samples: np.ndarray | None = None
  labels: np.ndarray | None = None


def extract(
  extractor: Extractor,
  images: np.ndarray,
  *,
  use_cache: bool = False,
) -> ImageFeatures:
  """Applies a feature extractor to images.

  Args:
    extractor: the network.
    images: uint8 [N, H, W, C].
    use_cache: whether to read and write the activations in the user's cache;
      worthwhile for real images, which are the same in every evaluation.
  """
  if use_cache:
    return ImageFeatures(images, features_lib.cached(extractor, images))
  return ImageFeatures(images, extractor.apply(images))


def note_missing_classes(protocol: Protocol, extractor: Extractor) -> None:
  """Prints a note if the inception score is skipped for lack of classes."""
  if 'inception_score' in protocol.metrics and not extractor.has_classes:
    print(
      f'No inception_score: the {extractor.name} feature extractor predicts no '
      'classes.'
    )


def check_sizes(
  protocol: Protocol,
  num_samples: int,
  num_real: int,
  field: str = '--metrics',
) -> None:
  """Checks that both sets are large enough for every metric.

  Args:
    protocol: the metrics.
    num_samples: number of images to score.
    num_real: number of reference images.
    field: flag or field that names the metrics, for the error.

  Raises:
    UserError: naming the metric and the number of images it needs.
  """
  needed = {
    'fid': 2,
    'kid': 2,
    'inception_score': _NUM_SPLITS,
    'nearest': 2,
    'sliced_wasserstein': 1,
    **dict.fromkeys(MANIFOLD, protocol.num_neighbours + 1),
  }
  for name in protocol.metrics:
    if min(num_samples, num_real) < needed[name]:
      raise UserError(
        f'{field}={name}: needs {needed[name]} images or more in each set; '
        f'there are {num_samples:,} samples and {num_real:,} real images'
      )


def has_enough_images(
  protocol: Protocol, num_samples: int, num_real: int
) -> bool:
  """Whether both sets pass `check_sizes`."""
  try:
    check_sizes(protocol, num_samples, num_real)
  except UserError:
    return False
  return True


def _kid_subset_size(num_samples: int, num_real: int) -> int:
  return min(_KID_SUBSET_SIZE, num_samples, num_real)


def compute_metrics(
  samples: ImageFeatures, real: ImageFeatures, protocol: Protocol
) -> dict[str, float]:
  """Computes the metrics that need two sets of images.

  'nearest' needs three sets, see `memorisation`. The inception score is left
  out if the network predicts no classes.

  Args:
    samples: the images to score.
    real: the reference images, of the same height, width and channels.
    protocol: the metrics.

  Returns:
    The numbers listed in METRICS, by name.
  """
  requested = set(protocol.metrics)
  metrics = {}
  if 'fid' in requested:
    metrics['fid'] = frechet.distance(
      frechet.moments(samples.features), frechet.moments(real.features)
    )
  if 'kid' in requested:
    metrics['kid'], metrics['kid_standard_deviation'] = kernel.distance(
      samples.features,
      real.features,
      num_subsets=_KID_NUM_SUBSETS,
      subset_size=_kid_subset_size(len(samples), len(real)),
      seed=_SEED,
    )
  logits = samples.activations.logits
  if 'inception_score' in requested and logits is not None:
    mean, deviation = inception_score.score(
      logits, num_splits=_NUM_SPLITS, seed=_SEED
    )
    metrics['inception_score'] = mean
    metrics['inception_score_standard_deviation'] = deviation
  if requested.intersection(MANIFOLD):
    manifold = neighbours.manifold_metrics(
      real.features, samples.features, num_neighbours=protocol.num_neighbours
    )
    metrics |= {k: getattr(manifold, k) for k in MANIFOLD if k in requested}
  if 'sliced_wasserstein' in requested:
    metrics['sliced_wasserstein'] = sliced_wasserstein.distance(
      _pixels(samples),
      _pixels(real),
      num_projections=_NUM_PROJECTIONS,
      seed=_SEED,
    )
  return metrics


def _pixels(images: ImageFeatures) -> np.ndarray:
  """float32 [N, H * W * C] in [0, 1]."""
  flat = images.images.reshape(len(images), -1)
  return flat.astype(np.float32) / 255


@dataclasses.dataclass(frozen=True, eq=False)
class NearestNeighbours:
  """The nearest training image of each image, in feature space."""

  distances: np.ndarray  # float64 [N]
  indices: np.ndarray  # int64 [N], into the training images


def nearest_neighbours(
  images: ImageFeatures, train: ImageFeatures
) -> NearestNeighbours:
  """Finds the nearest training image of each image."""
  return NearestNeighbours(*neighbours.nearest(images.features, train.features))


def memorisation(
  samples: NearestNeighbours, held_out: NearestNeighbours
) -> dict[str, float]:
  """Compares how close samples and held-out images lie to training images.

  Returns:
    `nearest_train_ratio`: about 1 if samples are as novel as held-out images,
    near 0 if they are copies. `memorised_share`: 0.01 by chance.
  """
  threshold = np.quantile(held_out.distances, _MEMORISED_QUANTILE)
  typical = np.median(held_out.distances)
  ratio = np.median(samples.distances) / typical if typical else np.nan
  return {
    'nearest_train_ratio': float(ratio),
    'memorised_share': float(np.mean(samples.distances < threshold)),
  }


def nearest_picture(
  samples: np.ndarray, train: np.ndarray, nearest: NearestNeighbours
) -> np.ndarray:
  """Draws the samples closest to training images, each left of its neighbour.

  Args:
    samples: uint8 [N, H, W, C].
    train: uint8 [M, H, W, C].
    nearest: of the samples.

  Returns:
    A grid of pairs, closest first, uint8 [H', W', C].
  """
  order = np.argsort(nearest.distances, kind='stable')[:_NUM_PAIRS]
  pairs = np.concatenate(
    [samples[order], train[nearest.indices[order]]], axis=2
  )
  return images_lib.grid(pairs, _PAIRS_PER_ROW)
