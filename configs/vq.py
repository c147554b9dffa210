"""VQ-VAEs (van den Oord et al. 2017, arXiv:1711.00937).

  python -m vq_flax.main --config=configs/vq.py[:VARIANT]
  python -m vq_flax.evaluate --workdir=runs/vq[_VARIANT] --metrics=bound

An image becomes a grid of codes, each the number of an entry of a codebook. The
entries are moving averages of the encoder's outputs, start at clusters of the
first batch, and those that die start anew.

Measured on 2 cores of a shared x86 CPU (AVX-512) with other work beside, on 29
November 2026.

  (none)         The embedded digits at 32x32, an 8x8 grid of 128 codes. Not
                 measured.
  mnist          TFDS mnist at 28x28, binarised at random, padded to 32x32 in
                 the networks: a 4x4 grid of 256 codes. 4 min 30 s. Distortion
                 50.5 nats, rate 86.9 by the frequencies of codes, all of which
                 are used. With `configs/vq_prior.py:mnist_conditional`, rate
                 64.9 and -log Pr(x) at most 115.4; FID of samples 0.86.
  mnist_control  The same codebook as the first implementations had it: random
                 at the start, trained by its gradient, dead codes stay dead.
                 Not measured.
  cifar10        TFDS cifar10 with a mixture of discretised logistics, for a
                 GPU. Not measured.
  smoke          The digits at 16x16: a test run of a few seconds.
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
    'mnist_control': _mnist_control,
    'cifar10': _cifar10,
    'smoke': _smoke,
  }
  return of_variant(vq_config.default(), variants, variant)


def _digits(config: ConfigDict) -> None:
  config.dataset.binarise = 'threshold'
  config.model.num_codes = 128
  config.optimizer.schedule = 'cosine'
  config.num_steps = 1500
  config.sample_every_steps = 300
  config.checkpoint_every_steps = 500


def _mnist(config: ConfigDict) -> None:
  """Few codes: more of them record the noise of the binarisation."""
  config.dataset.name = 'mnist'
  config.dataset.image_size = 28
  config.model.num_halvings = 3
  config.model.num_codes = 256
  config.optimizer.schedule = 'cosine'
  config.batch_size = 128
  config.num_steps = 5000
  config.log_every_steps = 500
  config.sample_every_steps = 1000
  config.checkpoint_every_steps = 1000


def _mnist_control(config: ConfigDict) -> None:
  _mnist(config)
  config.codebook.learning = 'gradient'
  config.codebook.start = 'random'
  config.codebook.restart_below = 0.0


def _cifar10(config: ConfigDict) -> None:
  config.dataset.name = 'cifar10'
  config.dataset.binarise = 'none'
  config.dataset.flip = True
  config.likelihood = 'logistic_mixture'
  config.model.base_features = 256
  config.model.code_size = 64
  config.optimizer.learning_rate = 2e-4
  config.batch_size = 128
  config.num_steps = 100_000
  config.checkpoint_every_steps = 5000


def _smoke(config: ConfigDict) -> None:
  config.dataset.image_size = 16
  config.dataset.binarise = 'threshold'
  config.model.base_features = 8
  config.model.num_codes = 16
  config.model.code_size = 4
  config.num_steps = 8
  config.batch_size = 16
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
