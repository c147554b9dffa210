"""Reference sets: the real images that a run's samples are scored against.

The reference set is one split of the data set. Another split, scored as if it
were samples, is the baseline: what real images themselves score, without which
the metrics cannot be interpreted.

Dimensions: N images, H height, W width, C channels.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
from typing import Any

from absl import flags
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax.cli import commands
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.evaluation import protocol as protocol_lib
from common_flax.evaluation.protocol import ImageFeatures
from common_flax.evaluation.protocol import METRICS
from common_flax.evaluation.protocol import NearestNeighbours
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.protocol import Scores
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import features as features_lib
from common_flax.metrics.classifier import Classifier
from common_flax.metrics.features import Extractor
from common_flax.metrics.features import FEATURES
from common_flax.metrics.resizing import RESIZES

# Real images used per split, the number behind most published FIDs.
MAX_REAL_IMAGES = 50_000

AUTO = 'auto'


@dataclasses.dataclass(frozen=True)
class ExtractorSpec:
  """Which feature extractor to use; the fields are flags of the commands."""

  features: str  # AUTO, or one of FEATURES
  inception_weights: str | None  # a file; None for the published weights
  resize: str  # one of RESIZES

  def resolve(self, *, is_labelled: bool) -> str:
    """The name of the extractor, one of FEATURES.

    Args:
      is_labelled: whether a classifier could be trained on the images.
    """
    if self.features != AUTO:
      return self.features
    if self.inception_weights:
      return 'inception'
    return 'classifier' if is_labelled else 'random'


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags that select the features and their settings."""
  flags.DEFINE_enum(
    'features',
    AUTO,
    (AUTO, *FEATURES),
    'Feature extractor. By default inception if --inception_weights is given, '
    'else a classifier trained on the labelled images, else a fixed random '
    'network.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'inception_weights',
    None,
    'Path of pt_inception-2015-12-05-6726825d.pth; downloaded by default when '
    'needed.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'resize',
    'clean',
    tuple(RESIZES),
    'How images are resized to 299 x 299 pixels for inception.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_neighbours',
    protocol_lib.DEFAULT_NEIGHBOURS,
    'k: the distance to the k-th nearest neighbour is the radius around an '
    'image, for precision, recall, density and coverage.',
    1,
    flag_values=values,
  )


def check_flags(values: flags.FlagValues, metrics: Sequence[str]) -> None:
  """Refuses flags of `define_flags` that have no effect on the metrics.

  Args:
    values: the parsed flags.
    metrics: the metrics that are computed; those that are not in METRICS use no
      features.

  Raises:
    UserError: naming the flag.
  """
  on_metrics = f'on {", ".join(metrics)}; remove it'
  settings = ('inception_weights', 'resize')
  if not {*metrics} & {*METRICS}:
    commands.refuse_unused(values, on_metrics, 'features', *settings)
  if not {*metrics} & {*protocol_lib.MANIFOLD}:
    commands.refuse_unused(values, on_metrics, 'num_neighbours')
  if values.features not in (AUTO, 'inception'):
    reason = f'with --features={values.features}; use --features=inception'
    commands.refuse_unused(values, reason, *settings)
  if values.features == AUTO and not values.inception_weights:
    reason = 'without --features=inception; add it'
    commands.refuse_unused(values, reason, 'resize')


def extractor_spec(values: flags.FlagValues) -> ExtractorSpec:
  """The feature extractor that the flags select."""
  return ExtractorSpec(values.features, values.inception_weights, values.resize)


def requested_metrics(
  names: Sequence[str], available: tuple[str, ...]
) -> tuple[str, ...]:
  """The metrics that --metrics names, without duplicates.

  Args:
    names: the flag's value; empty for all available metrics.
    available: the metrics that can be computed.

  Raises:
    UserError: naming a metric that is not available.
  """
  for name in names:
    if name not in available:
      raise UserError(
        f'--metrics={name}: not available here; choose from '
        f'{",".join(available)}'
      )
  return tuple(dict.fromkeys(names)) or available


def training_metrics(names: Sequence[str]) -> tuple[str, ...]:
  """Checks the metrics of config.evaluation_metrics.

  Raises:
    UserError: naming a metric that is unknown or not available in training.
  """
  available = [name for name in METRICS if name != 'nearest']
  for name in names:
    if name not in available:
      raise UserError(
        f'config.evaluation_metrics={name!r}: choose from '
        f'{", ".join(available)}'
      )
  return tuple(names)


def dataset_classifier(dataset: ConfigDict) -> Classifier:
  """The classifier trained on a labelled data set.

  For stacked images it classifies one channel, a single digit.

  Raises:
    UserError: if the images have no labels.
  """
  base = data.stacked_base(dataset) if dataset.name == 'stacked' else dataset
  return classifier_lib.load_or_train(
    data.load(base, 'train'),
    data.load(base, 'test'),
  )


def create_unsupervised_extractor(name: str, spec: ExtractorSpec) -> Extractor:
  """Creates an extractor that needs no labels.

  Args:
    name: 'inception' or 'random'.
    spec: the weights and the resizing of inception.

  Raises:
    UserError: if the weights are missing.
  """
  if name == 'inception':
    return features_lib.inception_extractor(spec.inception_weights, spec.resize)
  return features_lib.random_extractor()


def create_extractor(
  dataset: ConfigDict, num_classes: int | None, spec: ExtractorSpec
) -> Extractor:
  """Creates the feature extractor for a data set.

  Args:
    dataset: a run's `config.dataset`.
    num_classes: of the data set; None if it has no labels.
    spec: the extractor to create.

  Raises:
    UserError: if the weights or labels that it needs are missing.
  """
  name = spec.resolve(is_labelled=num_classes is not None)
  if name != 'classifier':
    return create_unsupervised_extractor(name, spec)
  if num_classes is None:
    raise UserError(
      '--features=classifier: the data set has no labels; choose inception or '
      'random'
    )
  classifier = dataset_classifier(dataset)
  if dataset.name == 'stacked':
    return features_lib.stacked_classifier_extractor(classifier)
  return features_lib.classifier_extractor(classifier)


def _extract(extractor: Extractor, source: Source) -> ImageFeatures:
  images = data.first_examples(source, MAX_REAL_IMAGES)
  return protocol_lib.extract(extractor, images, use_cache=True)


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceSet:
  """Real images of a data set with their features, to score samples against."""

  extractor: Extractor
  protocol: Protocol
  real: ImageFeatures  # the split to compare with
  baseline: ImageFeatures | None = None  # another split, if there is one
  # For 'nearest' alone: of `real` and `baseline` the training split, and the
  # neighbours in it of the images of the held-out one.
  train: ImageFeatures | None = None
  held_out_nearest: NearestNeighbours | None = None

  def score(self, samples: np.ndarray) -> Scores:
    """Scores samples, uint8 [N, H, W, C]."""
    extracted = protocol_lib.extract(self.extractor, samples)
    metrics = protocol_lib.compute_metrics(extracted, self.real, self.protocol)
    if self.held_out_nearest is None:
      return Scores(metrics)
    nearest = protocol_lib.nearest_neighbours(extracted, self.train)
    metrics |= protocol_lib.memorisation(nearest, self.held_out_nearest)
    picture = protocol_lib.nearest_picture(samples, self.train.images, nearest)
    return Scores(metrics, picture)

  def baseline_metrics(self, num_samples: int) -> dict[str, float]:
    """Scores up to `num_samples` real images of the baseline split.

    Empty if there is no such split, or too few images in it.
    """
    if self.baseline is None:
      return {}
    images = self.baseline.subset(slice(num_samples))
    sizes = len(images), len(self.real)
    if not protocol_lib.has_enough_images(self.protocol, *sizes):
      return {}
    metrics = protocol_lib.compute_metrics(images, self.real, self.protocol)
    if self.held_out_nearest is not None:
      metrics |= protocol_lib.memorisation(
        self.held_out_nearest, self.held_out_nearest
      )
    return metrics

  def provenance(self, num_samples: int) -> dict[str, Any]:
    """What the metrics of `num_samples` samples depend on, for a report."""
    found = {'num_real': len(self.real), **self.extractor.provenance}
    if self.baseline is not None:
      found['num_baseline'] = min(num_samples, len(self.baseline))
    if self.train is not None:
      found['num_train'] = len(self.train)
    return found | self.protocol.provenance(num_samples, len(self.real))


def create_reference_set(
  open_split: Callable[[str], Source],
  dataset: ConfigDict,
  split: str,
  spec: ExtractorSpec,
  protocol: Protocol,
  num_samples: int,
) -> ReferenceSet:
  """Creates the reference set for the samples of a trained model.

  Args:
    open_split: opens a split by name, its images as the model observes them.
    dataset: the run's `config.dataset`.
    split: to compare with. The baseline is 'train', or 'test' if `split` is
      'train'.
    spec: the feature extractor.
    protocol: the metrics.
    num_samples: the number of samples that will be scored.

  Raises:
    UserError: if the split, or what the extractor needs, is missing, or if
      there are too few real images or samples.
  """
  source = open_split(split)
  protocol_lib.check_sizes(protocol, num_samples, len(source))
  extractor = create_extractor(dataset, source.num_classes, spec)
  protocol_lib.note_missing_classes(protocol, extractor)
  real, baseline = _extract(extractor, source), None
  try:
    baseline_source = open_split('test' if split == 'train' else 'train')
    baseline = _extract(extractor, baseline_source)
  except UserError as error:  # the data set has a single split
    if 'nearest' in protocol.metrics:
      raise UserError(
        f'--metrics=nearest: needs a second split; {error}'
      ) from error
  if 'nearest' not in protocol.metrics:
    return ReferenceSet(extractor, protocol, real, baseline)
  train, held_out = (real, baseline) if split == 'train' else (baseline, real)
  held_out_nearest = protocol_lib.nearest_neighbours(held_out, train)
  return ReferenceSet(
    extractor, protocol, real, baseline, train, held_out_nearest
  )


def training_reference_set(
  dataset: ConfigDict, source: Source, spec: ExtractorSpec, protocol: Protocol
) -> ReferenceSet:
  """Creates the reference set for samples drawn while a model trains.

  Args:
    dataset: the run's `config.dataset`.
    source: the images that the model trains on, as it observes them.
    spec: the feature extractor.
    protocol: metrics from `training_metrics`.

  Raises:
    UserError: if the weights or labels that the extractor needs are missing.
  """
  extractor = create_extractor(dataset, source.num_classes, spec)
  protocol_lib.note_missing_classes(protocol, extractor)
  return ReferenceSet(extractor, protocol, _extract(extractor, source))
