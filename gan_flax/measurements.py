"""What is measured of trained generators, by what they were trained on.

Of toy worlds the modes are known. Of images the field's metrics are measured,
see `common_flax.evaluation`; of labelled ones a classifier, trained on the real
images, says besides which class a sample is of.

Dimensions: N samples, H height, W width, C channels, K classes.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import evaluation
from common_flax import references
from common_flax import sources
from common_flax import terminal
from common_flax.data import stacked
from common_flax.data.source import Source
from common_flax.data.worlds import WORLDS
from common_flax.evaluation import Protocol
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import modes
from common_flax.metrics.classifier import Classifier
from common_flax.references import Eyes
from gan_flax.trained import CHUNK
from gan_flax.trained import Sampler

# Of each seed: PacGAN's for worlds and stacks, a thousand a class of ten.
NUM_POINTS = 2500
NUM_STACKS = 26_000
NUM_IMAGES = 10_000

# Metrics beside those of `evaluation`.
MODES = 'modes'  # of a world
CLASSES = 'classes'  # that a classifier sees


class Measured(NamedTuple):
  """What was measured of one generator."""

  metrics: dict[str, Any]  # numbers or lists of them
  picture: np.ndarray | None = None  # of samples and their nearest real images


@dataclasses.dataclass(frozen=True)
class Measurement:
  """How generators are measured, and what to compare their numbers with."""

  measure: Callable[[Sampler, jax.Array, int], Measured]  # sampler, key, N
  baselines: Mapping[str, dict[str, float]]  # of 'real' and 'perfect' samples
  provenance: Mapping[str, Any]


def default_num_samples(dataset: ConfigDict) -> int:
  """How many samples of each seed are measured unless it is said."""
  if dataset.name in WORLDS:
    return NUM_POINTS
  return NUM_STACKS if dataset.name == 'stacked' else NUM_IMAGES


def of(
  dataset: ConfigDict,
  split: str,
  num_samples: int,
  metrics: Sequence[str],
  eyes: Eyes,
  num_neighbours: int,
) -> Measurement:
  """What there is to measure of generators of a data set.

  Args:
    dataset: the run's `config.dataset`.
    split: of the real examples to compare with.
    num_samples: N, that will be drawn of each seed.
    metrics: names; none for all there are, of stacks the modes alone.
    eyes: the network that looks at images.
    num_neighbours: see `Protocol`.

  Raises:
    UserError: if there is no such split or metric, or nothing to see with.
  """
  if dataset.name in WORLDS:
    references.metrics_of(metrics, (MODES,))
    return _of_world(dataset, split, num_samples)
  source = sources.load(dataset, split)
  known = tuple(evaluation.METRICS)
  if source.num_classes is not None:
    known = (*known, CLASSES)
  if dataset.name == 'stacked':
    metrics = metrics or (CLASSES,)
  chosen = references.metrics_of(metrics, known)
  parts = []
  of_sets = tuple(name for name in chosen if name != CLASSES)
  if of_sets:
    protocol = Protocol(of_sets, num_neighbours)
    parts.append(_of_images(dataset, split, num_samples, protocol, eyes))
  if CLASSES in chosen:
    parts.append(_of_classes(dataset, source, num_samples))
  return _joined(parts)


def _of_world(dataset: ConfigDict, split: str, num_samples: int) -> Measurement:
  world = WORLDS[dataset.name]
  real = sources.load(dataset, split).examples[:num_samples]

  def measure(sampler: Sampler, key: jax.Array, num: int) -> Measured:
    points = jax.device_get(sampler.generate(key, num))
    return Measured(modes.coverage(points, world)._asdict())

  return Measurement(
    measure,
    {
      'real': modes.coverage(real, world)._asdict(),
      'perfect': modes.perfect_coverage(world, num_samples)._asdict(),
    },
    {'num_real': len(real)},
  )


@dataclasses.dataclass(frozen=True)
class _Part:
  """What is measured of images; several parts look at the same ones."""

  # (images uint8 [N, H, W, C], classes asked for int32 [N] or None)
  measure: Callable[[np.ndarray, np.ndarray | None], Measured]
  baselines: Mapping[str, dict[str, float]]
  provenance: Mapping[str, Any]


def _joined(parts: Sequence[_Part]) -> Measurement:
  def measure(sampler: Sampler, key: jax.Array, num: int) -> Measured:
    asked = None
    if sampler.gan.is_conditional:  # as often each
      asked = np.arange(num) % sampler.gan.num_classes
    chunks = terminal.track(
      sampler.chunks(key, num, label=asked), -(-num // CHUNK), 'Drawing'
    )
    images = np.concatenate([np.asarray(chunk) for chunk in chunks])
    metrics, picture = {}, None
    for part in parts:
      found = part.measure(images, asked)
      metrics |= found.metrics
      picture = picture if found.picture is None else found.picture
    return Measured(metrics, picture)

  baselines, provenance = {'real': {}, 'perfect': {}}, {}
  for part in parts:
    provenance |= part.provenance
    for name, found in part.baselines.items():
      baselines[name] |= found
  return Measurement(measure, baselines, provenance)


def _of_images(
  dataset: ConfigDict,
  split: str,
  num_samples: int,
  protocol: Protocol,
  eyes: Eyes,
) -> _Part:
  reference = references.of_data(
    functools.partial(sources.load, dataset),
    dataset,
    split,
    eyes,
    protocol,
    num_samples,
  )

  def measure(images: np.ndarray, unused_asked: np.ndarray | None) -> Measured:
    return Measured(*reference.judge(images))

  return _Part(
    measure,
    {'real': reference.baseline(num_samples)},
    reference.provenance(num_samples),
  )


def _classes(source: Source, num: int) -> np.ndarray:
  return np.array([source[i]['label'] for i in range(num)])


def _predict(
  classifier: Classifier, is_stacked: bool, images: np.ndarray
) -> np.ndarray:
  """The classes int32 [N] of images; of stacks one for all three digits."""
  if not is_stacked:
    return classifier_lib.labels(classifier, images)
  channels = [
    classifier_lib.labels(classifier, images[..., c : c + 1])
    for c in range(stacked.NUM_CHANNELS)
  ]
  return stacked.join_labels(
    np.stack(channels, axis=-1), classifier.num_classes
  )


def _agreement(
  predicted: np.ndarray, asked: np.ndarray, num_classes: int
) -> dict[str, Any]:
  """How often a classifier sees the class that was asked for."""
  agrees = predicted == asked
  by_class = [
    float(agrees[asked == k].mean())
    for k in range(num_classes)
    if (asked == k).any()
  ]
  return {
    'label_agreement': float(agrees.mean()),
    'lowest_label_agreement': min(by_class),
    'label_agreement_by_class': by_class,
  }


def _of_classes(dataset: ConfigDict, source: Source, num_samples: int) -> _Part:
  num_classes = source.num_classes
  classifier = references.classifier_of(dataset)
  predict = functools.partial(_predict, classifier, dataset.name == 'stacked')

  def measure(images: np.ndarray, asked: np.ndarray | None) -> Measured:
    predicted = predict(images)
    metrics = modes.class_coverage(predicted, num_classes)
    if asked is not None:
      metrics |= _agreement(predicted, asked, num_classes)
    return Measured(metrics)

  num_real = min(len(source), num_samples)
  predicted = predict(sources.first_examples(source, num_real))
  real = modes.class_coverage(predicted, num_classes) | _agreement(
    predicted, _classes(source, num_real), num_classes
  )
  perfect = {
    'modes_covered': float(num_classes),
    'mode_kl_nats': (num_classes - 1) / (2 * num_samples),
    'label_agreement': 1.0,
    'lowest_label_agreement': 1.0,
  }
  return _Part(
    measure,
    {'real': real, 'perfect': perfect},
    {
      'num_classified_real': num_real,
      'classifier': classifier.digest,
      'classifier_test_accuracy': classifier.test_accuracy,
    },
  )
