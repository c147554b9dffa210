"""Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505).

  python -m vq_flax.main --config=configs/fsq.py[:VARIANT]
  python -m vq_flax.evaluate --workdir=runs/fsq[_VARIANT] --metrics=bound

The networks of `configs/vq.py`, but each cell has a few features that are
rounded to a few levels: there is no codebook to train.

Measured on 2 cores of a shared x86 CPU (AVX-512) with other work beside, on 29
November 2026.

  (none)   The embedded digits at 32x32, an 8x8 grid of 8x4x4 levels. Not
           measured.
  mnist    TFDS mnist at 28x28, binarised at random, a 7x7 grid of 8x8x8. 11
           min. Distortion 14.2 nats, rate 283.8 by the frequencies of codes, of
           which 99 % are used; FID of reconstructions 4.1.
  cifar10  TFDS cifar10 with a mixture of discretised logistics, for a GPU. Not
           measured.
  smoke    The digits at 16x16: a test run of a few seconds.
"""

from ml_collections import ConfigDict

from common_flax.config import of_variant
from vq_flax import config as vq_config


def get_config(variant: str = '') -> ConfigDict:
  """Returns the configuration of a variant.

  Raises:
    ValueError: if the variant is unknown.
  """
  variants = {
    '': _digits,
    'mnist': _mnist,
    'cifar10': _cifar10,
    'smoke': _smoke,
  }
  return of_variant(vq_config.default(), variants, variant)


def _digits(config: ConfigDict) -> None:
  config.dataset.binarise = 'threshold'
  config.model.name = 'fsq'
  config.model.levels = (8, 4, 4)
  config.optimizer.schedule = 'cosine'
  config.num_steps = 1500
  config.sample_every_steps = 300
  config.checkpoint_every_steps = 500


def _mnist(config: ConfigDict) -> None:
  config.dataset.name = 'mnist'
  config.dataset.image_size = 28
  config.model.name = 'fsq'
  config.optimizer.schedule = 'cosine'
  config.batch_size = 128
  config.num_steps = 5000
  config.log_every_steps = 500
  config.sample_every_steps = 1000
  config.checkpoint_every_steps = 1000


def _cifar10(config: ConfigDict) -> None:
  config.dataset.name = 'cifar10'
  config.dataset.binarise = 'none'
  config.dataset.flip = True
  config.likelihood = 'logistic_mixture'
  config.model.name = 'fsq'
  config.model.base_features = 256
  config.optimizer.learning_rate = 2e-4
  config.batch_size = 128
  config.num_steps = 100_000
  config.checkpoint_every_steps = 5000


def _smoke(config: ConfigDict) -> None:
  config.dataset.image_size = 16
  config.dataset.binarise = 'threshold'
  config.model.name = 'fsq'
  config.model.levels = (4, 3)
  config.model.base_features = 8
  config.num_steps = 8
  config.batch_size = 16
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
