"""What is measured of trained generators, by what they were trained on.

Of toy worlds the modes are known; of labelled images a classifier, trained on
the real ones, says which class a sample is of.

Dimensions: N samples, K classes.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import runs
from common_flax import terminal
from common_flax.config import UserError
from common_flax.data import stacked
from common_flax.data.source import Source
from common_flax.data.worlds import WORLDS
from common_flax.metrics import classifier as classifier_lib
from common_flax.metrics import modes
from gan_flax.trained import CHUNK
from gan_flax.trained import Sampler

# Of each seed: PacGAN's for worlds and stacks, a thousand a class of ten.
NUM_POINTS = 2500
NUM_STACKS = 26_000
NUM_IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class Measurement:
  """How generators are measured, and what to compare their numbers with."""

  # (sampler, key, N) -> metrics, numbers or lists of them
  measure: Callable[[Sampler, jax.Array, int], dict[str, Any]]
  baselines: Mapping[str, dict[str, float]]  # of 'real' and 'perfect' samples
  provenance: Mapping[str, Any]


def default_num_samples(dataset: ConfigDict) -> int:
  """How many samples of each seed are measured unless it is said."""
  if dataset.name in WORLDS:
    return NUM_POINTS
  return NUM_STACKS if dataset.name == 'stacked' else NUM_IMAGES


def of(dataset: ConfigDict, split: str, num_samples: int) -> Measurement:
  """What there is to measure of generators of a data set.

  Args:
    dataset: the run's `config.dataset`.
    split: of the real examples to compare with.
    num_samples: N, that will be drawn of each seed.

  Raises:
    UserError: if there is no such split, or nothing known to measure.
  """
  if dataset.name in WORLDS:
    return _of_world(dataset, split, num_samples)
  return _of_classes(dataset, split, num_samples)


def _of_world(dataset: ConfigDict, split: str, num_samples: int) -> Measurement:
  world = WORLDS[dataset.name]
  real = runs.load_source(dataset, split).examples[:num_samples]

  def measure(sampler: Sampler, key: jax.Array, num: int) -> dict[str, Any]:
    points = jax.device_get(sampler.generate(key, num))
    return modes.coverage(points, world)._asdict()

  return Measurement(
    measure,
    {
      'real': modes.coverage(real, world)._asdict(),
      'perfect': modes.perfect_coverage(world, num_samples)._asdict(),
    },
    {'num_real': len(real)},
  )


def _classes(source: Source, num: int) -> np.ndarray:
  return np.array([source[i]['label'] for i in range(num)])


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


def _of_classes(
  dataset: ConfigDict, split: str, num_samples: int
) -> Measurement:
  source = runs.load_source(dataset, split)
  num_classes = source.num_classes
  if num_classes is None:
    raise UserError(
      f'config.dataset.name={dataset.name!r}: its images have no labels, by '
      'which samples could be judged'
    )
  is_stacked = dataset.name == 'stacked'
  known = runs.base_of(dataset) if is_stacked else dataset
  classifier = classifier_lib.trained_on(
    runs.load_source(known, 'train'),
    runs.load_source(known, 'test'),
    progress=terminal.track,
  )

  def predict(images: np.ndarray) -> np.ndarray:
    if not is_stacked:
      return classifier_lib.labels(classifier, images)
    channels = [
      classifier_lib.labels(classifier, images[..., c : c + 1])
      for c in range(stacked.NUM_CHANNELS)
    ]
    return stacked.join_labels(
      np.stack(channels, axis=-1), classifier.num_classes
    )

  def measure(sampler: Sampler, key: jax.Array, num: int) -> dict[str, Any]:
    asked = np.arange(num) % num_classes if sampler.gan.is_conditional else None
    chunks = terminal.track(
      sampler.chunks(key, num, label=asked), -(-num // CHUNK), 'Drawing'
    )
    predicted = predict(np.concatenate([np.asarray(x) for x in chunks]))
    metrics = modes.class_coverage(predicted, num_classes)
    if asked is not None:
      metrics |= _agreement(predicted, asked, num_classes)
    return metrics

  num_real = min(len(source), num_samples)
  predicted = predict(runs.first_examples(source, num_real))
  real = modes.class_coverage(predicted, num_classes) | _agreement(
    predicted, _classes(source, num_real), num_classes
  )
  perfect = {
    'modes_covered': float(num_classes),
    'mode_kl_nats': (num_classes - 1) / (2 * num_samples),
    'label_agreement': 1.0,
    'lowest_label_agreement': 1.0,
  }
  return Measurement(
    measure,
    {'real': real, 'perfect': perfect},
    {
      'num_real': num_real,
      'classifier': classifier.digest,
      'classifier_test_accuracy': classifier.test_accuracy,
    },
  )
