"""SNGAN: spectral normalisation, hinge loss and residual networks.

  python -m gan_flax.main --config=configs/sngan.py[:VARIANT]

The networks, objective and optimiser of Miyato et al. (2018), arXiv:1802.05957,
section 4 and table 3.

Measured on one core of a shared x86 CPU (AVX-512) on 23 November 2026, with
`benchmarks.class_shares` on 1,000 samples:

  (none)   The embedded digits at 16x16, with a smaller network, two
           discriminator updates per step and five times the paper's learning
           rates. 4 min at about 1,100 images/s, with the other core busy.
           Readable; rarest class 7.5 %, most frequent 12.5 %.
  cifar10  TFDS cifar10 with the paper's sizes, for a GPU. Not measured.
  smoke    The digits at 16x16: a test run of a few seconds.
"""

from ml_collections import ConfigDict

from common_flax.config import of_variant
from gan_flax import config as gan_config


def get_config(variant: str = '') -> ConfigDict:
  """Returns the configuration of a variant.

  Raises:
    ValueError: if the variant is unknown.
  """
  variants = {'': _digits, 'cifar10': _cifar10, 'smoke': _smoke}
  return of_variant(gan_config.default(), variants, variant)


def _sngan(config: ConfigDict) -> None:
  config.loss.name = 'hinge'
  config.model.name = 'resnet'
  config.model.latent_size = 128
  config.model.discriminator_norm = 'none'
  config.model.spectral_norm = True
  config.discriminator_steps = 5
  for player in (config.generator, config.discriminator):
    player.learning_rate = 2e-4
    player.b1 = 0.0
    player.b2 = 0.9


def _digits(config: ConfigDict) -> None:
  _sngan(config)
  config.num_steps = 2000
  config.ema_decay = 0.99
  config.sample_every_steps = 200
  config.dataset.image_size = 16
  config.model.base_features = 16
  config.discriminator_steps = 2
  for player in (config.generator, config.discriminator):
    player.learning_rate = 1e-3


def _cifar10(config: ConfigDict) -> None:
  _sngan(config)
  config.num_steps = 100_000
  config.ema_decay = 0.9999
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000
  config.dataset.name = 'cifar10'
  config.dataset.flip = True
  config.model.base_features = 128
  config.generator.schedule = 'linear'
  config.discriminator.schedule = 'linear'


def _smoke(config: ConfigDict) -> None:
  _sngan(config)
  config.num_steps = 4
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.discriminator_steps = 2
  config.log_every_steps = 2
  config.sample_every_steps = 2
  config.checkpoint_every_steps = 2
