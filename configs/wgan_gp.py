"""Wasserstein GAN with gradient penalty (Gulrajani et al. 2017; UDL 15.2).

  python -m gan_flax.main --config=configs/wgan_gp.py[:VARIANT]

The paper's objective and optimiser, with five critic updates per step
(arXiv:1704.00028, algorithm 1), and DCGAN's networks with layer norm in the
critic.

Measured on one core of a shared x86 CPU (AVX-512) on 23 November 2026, with
`benchmarks.class_shares` on 1,000 samples:

  (none)   The embedded digits at 32x32, at five times the paper's learning
           rates. 7 min at about 600 images/s, with the other core busy. Mostly
           readable; rarest class 4.1 %, most frequent 17.7 %.
  cifar10  TFDS cifar10, for a GPU. Not measured.
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


def _wgan_gp(config: ConfigDict) -> None:
  config.loss.name = 'wasserstein'
  config.penalty.gradient = 10.0
  config.model.discriminator_norm = 'layer'
  config.discriminator_steps = 5
  for player in (config.generator, config.discriminator):
    player.learning_rate = 1e-4
    player.b1 = 0.0
    player.b2 = 0.9


def _digits(config: ConfigDict) -> None:
  _wgan_gp(config)
  config.num_steps = 600
  config.ema_decay = 0.99
  config.log_every_steps = 20
  config.sample_every_steps = 60
  config.checkpoint_every_steps = 200
  config.model.base_features = 32
  for player in (config.generator, config.discriminator):
    player.learning_rate = 5e-4


def _cifar10(config: ConfigDict) -> None:
  _wgan_gp(config)
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
  _wgan_gp(config)
  config.num_steps = 4
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.discriminator_steps = 2
  config.log_every_steps = 2
  config.sample_every_steps = 2
  config.checkpoint_every_steps = 2
