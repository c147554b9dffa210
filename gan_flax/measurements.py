"""The metrics of trained generators, by the data that they were trained on.

Samples of a toy world are compared with its known modes. Images get the metrics
of `common_flax.evaluation.protocol`; if the data set is labelled, a classifier
trained on the real images also predicts the class of each sample.

Dimensions: N samples, H height, W width, C channels, K classes.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax.annealing.audit import AIS
from common_flax.data import stacked
from common_flax.data.source import report_of
from common_flax.data.source import Source
from common_flax.data.worlds import WORLDS
from common_flax.evaluation import reference_sets
from common_flax.evaluation.protocol import METRICS
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.protocol import Scores
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics.classifier import Classifier
from common_flax.progress import track
from gan_flax import mode_coverage
from gan_flax.trained import CHUNK
from gan_flax.trained import Sampler

# Default samples per seed: PacGAN's numbers for worlds and stacks, else
# a thousand for each of ten classes.
NUM_POINTS = 2500
NUM_STACKS = 26_000
NUM_IMAGES = 10_000

# Metrics beside those of `common_flax.evaluation.protocol`.
MODES = 'modes'  # coverage of a toy world's modes
CLASSES = 'classes'  # coverage of the classes, and agreement with labels


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """Scores generators, and holds what to compare their scores with."""

  score: Callable[[Sampler, jax.Array, int], Scores]  # (sampler, key, N)
  baselines: Mapping[str, dict[str, float]]  # of 'real' and 'perfect' samples
  provenance: Mapping[str, Any]  # what the scores depend on


def default_num_samples(dataset: ConfigDict) -> int:
  """Default number of samples per seed."""
  if dataset.name in WORLDS:
    return NUM_POINTS
  return NUM_STACKS if dataset.name == 'stacked' else NUM_IMAGES


def default_metrics(dataset: ConfigDict) -> tuple[str, ...]:
  """Default metrics, to which labels of images add `classes`."""
  if dataset.name in WORLDS:
    return (MODES,)
  return (CLASSES,) if dataset.name == 'stacked' else tuple(METRICS)


def create_evaluator(
  dataset: ConfigDict,
  split: str,
  num_samples: int,
  metrics: Sequence[str],
  spec: ExtractorSpec,
  num_neighbours: int,
) -> Evaluator:
  """Creates the evaluator for generators of a data set.

  Args:
    dataset: the run's `config.dataset`.
    split: of the real examples to compare with.
    num_samples: N, drawn for each seed.
    metrics: names; if empty all that are available, for stacked images
      `classes` alone. `ais` is accepted for images, and left to
      `metrics.ais.added_to`.
    spec: the feature extractor for images.
    num_neighbours: see `Protocol`.

  Raises:
    UserError: if the split, a metric, or what the feature extractor needs is
      missing.
  """
  if dataset.name in WORLDS:
    reference_sets.requested_metrics(metrics, (MODES,))
    return _create_world_evaluator(dataset, split, num_samples)
  source = data.load(dataset, split)
  for line in report_of(source).lines():
    print(line)
  available = tuple(METRICS)
  if source.num_classes is not None:
    available = (*available, CLASSES)
  if dataset.name == 'stacked':
    metrics = metrics or (CLASSES,)
  requested = reference_sets.requested_metrics(
    metrics or available, (*available, AIS)
  )
  evaluators = []
  feature_metrics = tuple(name for name in requested if name in METRICS)
  if feature_metrics:
    protocol = Protocol(feature_metrics, num_neighbours)
    evaluators.append(
      _create_feature_evaluator(dataset, split, num_samples, protocol, spec)
    )
  if CLASSES in requested:
    evaluators.append(_create_class_evaluator(dataset, source, num_samples))
  return _join(evaluators)


def _create_world_evaluator(
  dataset: ConfigDict, split: str, num_samples: int
) -> Evaluator:
  world = WORLDS[dataset.name]
  real = data.load(dataset, split).examples[:num_samples]

  def score(sampler: Sampler, key: jax.Array, num: int) -> Scores:
    points = jax.device_get(sampler.generate(key, num))
    metrics = mode_coverage.coverage(points, world)._asdict()
    return Scores(metrics, samples=points, labels=sampler.labels(num))

  return Evaluator(
    score,
    {
      'real': mode_coverage.coverage(real, world)._asdict(),
      'perfect': mode_coverage.perfect_coverage(world, num_samples)._asdict(),
    },
    {'num_real': len(real)},
  )


@dataclasses.dataclass(frozen=True)
class _ImageEvaluator:
  """Some of the metrics of an `Evaluator`, on images drawn once for all."""

  # (images uint8 [N, H, W, C], requested classes int32 [N] or None)
  score: Callable[[np.ndarray, np.ndarray | None], Scores]
  baselines: Mapping[str, dict[str, float]]
  provenance: Mapping[str, Any]


def _join(evaluators: Sequence[_ImageEvaluator]) -> Evaluator:
  if not evaluators:  # no metric needs samples
    return Evaluator(lambda *unused: Scores({}), {}, {})

  def score(sampler: Sampler, key: jax.Array, num: int) -> Scores:
    labels = None
    if sampler.gan.is_conditional:  # all classes equally often
      labels = np.arange(num) % sampler.gan.num_classes
    chunks = track(
      sampler.chunks(key, num, label=labels), -(-num // CHUNK), 'Drawing'
    )
    images = np.concatenate([np.asarray(chunk) for chunk in chunks])
    metrics, picture = {}, None
    for evaluator in evaluators:
      scores = evaluator.score(images, labels)
      metrics |= scores.metrics
      picture = picture if scores.picture is None else scores.picture
    return Scores(metrics, picture, images, labels)

  baselines, provenance = {'real': {}, 'perfect': {}}, {}
  for evaluator in evaluators:
    provenance |= evaluator.provenance
    for name, metrics in evaluator.baselines.items():
      baselines[name] |= metrics
  return Evaluator(score, baselines, provenance)


def _create_feature_evaluator(
  dataset: ConfigDict,
  split: str,
  num_samples: int,
  protocol: Protocol,
  spec: ExtractorSpec,
) -> _ImageEvaluator:
  """Metrics of `common_flax.evaluation.protocol`."""
  reference_set = reference_sets.create_reference_set(
    functools.partial(data.load, dataset),
    dataset,
    split,
    spec,
    protocol,
    num_samples,
  )
  return _ImageEvaluator(
    lambda images, unused_labels: reference_set.score(images),
    {'real': reference_set.baseline_metrics(num_samples)},
    reference_set.provenance(num_samples),
  )


def _predict(
  classifier: Classifier, is_stacked: bool, images: np.ndarray
) -> np.ndarray:
  """Predicted classes int32 [N]; for stacks the class of all three digits."""
  if not is_stacked:
    return classifier_lib.labels(classifier, images)
  channels = [
    classifier_lib.labels(classifier, images[..., c : c + 1])
    for c in range(stacked.NUM_CHANNELS)
  ]
  return stacked.join_labels(
    np.stack(channels, axis=-1), classifier.num_classes
  )


def _create_class_evaluator(
  dataset: ConfigDict, source: Source, num_samples: int
) -> _ImageEvaluator:
  """Coverage of the classes, and agreement with the requested labels."""
  num_classes = source.num_classes
  classifier = reference_sets.dataset_classifier(dataset)
  predict = functools.partial(_predict, classifier, dataset.name == 'stacked')

  def score(images: np.ndarray, labels: np.ndarray | None) -> Scores:
    predicted = predict(images)
    metrics = mode_coverage.class_coverage(predicted, num_classes)
    if labels is not None:
      metrics |= classifier_lib.agreement(predicted, labels, num_classes)
    return Scores(metrics)

  num_real = min(len(source), num_samples)
  real_images = data.first_examples(source, num_real)
  real_labels = np.array([source[i]['label'] for i in range(num_real)])
  real = score(real_images, real_labels).metrics
  perfect = {
    'modes_covered': float(num_classes),
    'mode_kl_nats': (num_classes - 1) / (2 * num_samples),
    'label_agreement': 1.0,
    'lowest_label_agreement': 1.0,
  }
  return _ImageEvaluator(
    score,
    {'real': real, 'perfect': perfect},
    {
      'num_classified_real': num_real,
      'classifier': classifier.digest,
      'classifier_test_accuracy': classifier.test_accuracy,
    },
  )
