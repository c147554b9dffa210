"""Judges sets of images as the field does: against real ones, in features.

Metrics are asked for by name, and give the numbers that METRICS lists for them:

  fid                Fréchet distance of two Gaussians fitted to the features
  kid                squared maximum mean discrepancy, and over its subsets the
                     standard deviation
  inception_score    how sure and how varied the network's classes are
  precision, recall  samples among the real ones, real ones among the samples
  density, coverage  the same, less led astray by outliers
  nearest            how much closer samples lie to training images than
                     held-out images do: the ratio of median distances, and
                     the share of samples closer than one of a hundred of those
  sliced_wasserstein root mean square distance of random projections of pixels
                     in [0, 1], which needs no network

Dimensions: N images, H height, W width, C channels, F features.
"""

import dataclasses
from typing import Any

import numpy as np

from common_flax import images as images_lib
from common_flax.config import UserError
from common_flax.data.source import Progress
from common_flax.metrics import features as features_lib
from common_flax.metrics import frechet
from common_flax.metrics import inception_score
from common_flax.metrics import kernel
from common_flax.metrics import neighbours
from common_flax.metrics import sliced_wasserstein
from common_flax.metrics.features import Activations
from common_flax.metrics.features import Extractor

# The numbers that each metric gives; the first is what it is known for.
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
_MANIFOLD = ('precision', 'recall', 'density', 'coverage')
_NUM_SUBSETS = 100  # of KID, as torch-fidelity has it
_SUBSET_SIZE = 1000
_NUM_SPLITS = 10  # of the inception score, as Salimans et al. (2016) have it
_NUM_PROJECTIONS = 512
# Of subsets, splits and projections; it is torch-fidelity's.
_SEED = 2020
_RARE = 0.01  # the share of held-out images that lie so close to training ones
_NUM_SHOWN = 32  # samples beside their nearest training images
_PAIRS_PER_ROW = 8

DEFAULT_NEIGHBOURS = 5  # of Naeem et al. (2020)


@dataclasses.dataclass(frozen=True)
class Protocol:
  """What is measured, and how."""

  metrics: tuple[str, ...]  # of METRICS
  num_neighbours: int  # whose distance is the radius around an image

  def provenance(self, num_samples: int, num_real: int) -> dict[str, Any]:
    """How the numbers were made that `measure` gives."""
    found = {'metrics': list(self.metrics)}
    if any(name in self.metrics for name in _MANIFOLD):
      found['num_neighbours'] = self.num_neighbours
    if 'kid' in self.metrics:
      found['kid_num_subsets'] = _NUM_SUBSETS
      found['kid_subset_size'] = _subset_size(num_samples, num_real)
    if 'inception_score' in self.metrics:
      found['inception_score_num_splits'] = _NUM_SPLITS
    if 'sliced_wasserstein' in self.metrics:
      found['num_projections'] = _NUM_PROJECTIONS
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
  """Images, and what a network says of them."""

  images: np.ndarray  # uint8 [N, H, W, C]
  activations: Activations

  def __len__(self) -> int:
    return len(self.images)

  @property
  def features(self) -> np.ndarray:
    return self.activations.features


def check_classes(protocol: Protocol, extractor: Extractor) -> None:
  """Says it if a metric is left out for want of classes."""
  if 'inception_score' in protocol.metrics and not extractor.has_classes:
    print(
      f'No inception_score: the {extractor.name} features come without classes.'
    )


def look(
  extractor: Extractor,
  images: np.ndarray,
  progress: Progress,
  *,
  keep: bool = False,
) -> Seen:
  """Looks at images through a network.

  Args:
    extractor: the network.
    images: uint8 [N, H, W, C].
    progress: shows how far it is, see `load_encoded`.
    keep: whether what is seen is worth a place in the user's cache, as of real
      images it is.
  """
  if keep:
    return Seen(images, features_lib.kept(extractor, images, progress))
  return Seen(images, extractor.apply(images, progress))


def chosen(seen: Seen, which: slice | np.ndarray) -> Seen:
  """Some of the images seen, those at the indices."""
  parts = (x if x is None else x[which] for x in seen.activations)
  return Seen(seen.images[which], Activations(*parts))


def check_sizes(protocol: Protocol, num_samples: int, num_real: int) -> None:
  """Refuses sets that are too small for what is asked for.

  Raises:
    UserError: naming the metric, and how many images it needs.
  """
  needed = {
    'fid': 2,
    'kid': 2,
    'inception_score': _NUM_SPLITS,
    'nearest': 2,
    'sliced_wasserstein': 1,
    **dict.fromkeys(_MANIFOLD, protocol.num_neighbours + 1),
  }
  for name in protocol.metrics:
    if min(num_samples, num_real) < needed[name]:
      raise UserError(
        f'--metrics={name}: needs {needed[name]} images or more on either '
        f'side, and there are {num_samples:,} samples and {num_real:,} real '
        'ones'
      )


def is_enough(protocol: Protocol, num_samples: int, num_real: int) -> bool:
  """Whether `check_sizes` has nothing to say."""
  try:
    check_sizes(protocol, num_samples, num_real)
  except UserError:
    return False
  return True


def _subset_size(num_samples: int, num_real: int) -> int:
  return min(_SUBSET_SIZE, num_samples, num_real)


def measure(samples: Seen, real: Seen, protocol: Protocol) -> dict[str, float]:
  """What samples score against real images.

  'nearest' is not among it, see `memorisation`, nor is an inception score of a
  network without classes.

  Args:
    samples: to be judged.
    real: to be judged against, of the same height, width and channels.
    protocol: what to measure.
  """
  wanted = set(protocol.metrics)
  found = {}
  if 'fid' in wanted:
    found['fid'] = frechet.distance(
      frechet.moments(samples.features), frechet.moments(real.features)
    )
  if 'kid' in wanted:
    found['kid'], found['kid_standard_deviation'] = kernel.distance(
      samples.features,
      real.features,
      num_subsets=_NUM_SUBSETS,
      subset_size=_subset_size(len(samples), len(real)),
      seed=_SEED,
    )
  logits = samples.activations.logits
  if 'inception_score' in wanted and logits is not None:
    mean, deviation = inception_score.score(
      logits, num_splits=_NUM_SPLITS, seed=_SEED
    )
    found['inception_score'] = mean
    found['inception_score_standard_deviation'] = deviation
  if wanted.intersection(_MANIFOLD):
    manifold = neighbours.manifold(
      real.features, samples.features, num_neighbours=protocol.num_neighbours
    )
    found |= {k: getattr(manifold, k) for k in _MANIFOLD if k in wanted}
  if 'sliced_wasserstein' in wanted:
    found['sliced_wasserstein'] = sliced_wasserstein.distance(
      _pixels(samples),
      _pixels(real),
      num_projections=_NUM_PROJECTIONS,
      seed=_SEED,
    )
  return found


def _pixels(seen: Seen) -> np.ndarray:
  """float32 [N, H * W * C] in [0, 1]."""
  flat = seen.images.reshape(len(seen), -1)
  return flat.astype(np.float32) / 255


@dataclasses.dataclass(frozen=True, eq=False)
class Nearest:
  """How close images lie to training images."""

  distances: np.ndarray  # float64 [N], each to the nearest in features
  indices: np.ndarray  # int64 [N], of that one


def nearest(images: Seen, train: Seen) -> Nearest:
  """The nearest training image of each image."""
  return Nearest(*neighbours.nearest(images.features, train.features))


def memorisation(samples: Nearest, held_out: Nearest) -> dict[str, float]:
  """Whether samples lie closer to training images than new images would.

  Returns:
    `nearest_train_ratio` is about 1 of samples as new as the held-out images,
    and near 0 of copies; of `memorised_share` 0.01 is by chance.
  """
  rare = np.quantile(held_out.distances, _RARE)
  typical = np.median(held_out.distances)
  ratio = np.median(samples.distances) / typical if typical else np.nan
  return {
    'nearest_train_ratio': float(ratio),
    'memorised_share': float(np.mean(samples.distances < rare)),
  }


def nearest_picture(
  samples: np.ndarray, train: np.ndarray, found: Nearest
) -> np.ndarray:
  """The samples closest to training images, each to the left of its nearest.

  Args:
    samples: uint8 [N, H, W, C].
    train: uint8 [M, H, W, C].
    found: of the samples.

  Returns:
    A picture, uint8 [H', W', C], pairs from the closest on.
  """
  closest = np.argsort(found.distances, kind='stable')[:_NUM_SHOWN]
  pairs = np.concatenate(
    [samples[closest], train[found.indices[closest]]], axis=2
  )
  return images_lib.grid(pairs, _PAIRS_PER_ROW)
