"""Watches a GAN in training for collapse, noise and dead discriminators.

`measures` compares samples with real examples at each report, `judgement` says
whether training fails, and `advice` what to try.
"""

import functools

from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax.data.source import Source
from common_flax.training.watch import Watch
from gan_flax.gan import GAN
from gan_flax.watch.advice import suspects
from gan_flax.watch.judgement import judge
from gan_flax.watch.measures import measure
from gan_flax.watch.measures import reference

_NUM_REAL = 500  # real examples with which samples are compared
_FEW = 20  # examples of which some must differ
_DISTINCT = 0.1  # share of different images below which data are at fault
_FLAT = 1e-6  # `roughness` of images in [-1, 1] that hold no detail


def collapse_watch(gan: GAN, source: Source, config: ConfigDict) -> Watch:
  """Creates the hook that detects failures and applies `config.on_collapse`.

  Args:
    gan: the static part.
    source: the training data; its first examples are the reference for samples.
    config: the run's config.
  """
  examples = data.first_examples(source, _NUM_REAL)
  labels = None
  if gan.is_conditional:
    numbers = [source[i]['label'] for i in range(len(examples))]
    labels = np.asarray(numbers, np.int32)
  real = reference(gan, examples, labels)
  fault = None
  if not gan.is_of_points:
    fault = data_fault(examples, float(real.roughness))
  return Watch(
    functools.partial(measure, gan, real),
    functools.partial(
      judge,
      is_classifier=gan.loss.is_classifier,
      data_fault=fault,
      suspects=suspects(config),
    ),
    action=config.on_collapse,
    max_rollbacks=config.on_collapse_max_rollbacks,
    field='on_collapse',
  )


def data_fault(images: np.ndarray, roughness: float) -> str | None:
  """Says why no GAN can learn from these images; None if one may.

  Args:
    images: uint8 [N, S, S, C] of the training data.
    roughness: of `measures.roughness`, of the images.
  """
  num = len({image.tobytes() for image in images})
  if len(images) >= _FEW and num < _DISTINCT * len(images):
    return (
      f'the first {len(images)} training images are copies of {num}, so a good '
      'generator would look collapsed. Try other data: see config.dataset.'
    )
  if roughness < _FLAT:
    return (
      'the training images hold no detail: each is of a single colour. Try '
      'other data: see config.dataset.'
    )
  return None
