"""R3GAN's objective: a relativistic loss with R1 and R2 penalties.

  python -m gan_flax.main --config=configs/r3gan.py[:VARIANT]

The loss of Huang et al. (2024), arXiv:2501.05441, equations 2 and 3, with
DCGAN's networks and no normalisation in the discriminator. The paper's networks
of grouped convolutions are not implemented.

Measured on one core of a shared x86 CPU (AVX-512) on 23 November 2026, with
`benchmarks.class_shares` on 1,000 samples:

  (none)   The embedded digits at 32x32. 7 min at about 350 images/s, with the
           other core busy. Readable; rarest class 8.2 %, most frequent 13.3 %
           (`configs/dcgan.py`: 6.7 and 12.2 %).
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


def _r3gan(config: ConfigDict) -> None:
  config.loss.name = 'relativistic'
  config.penalty.r1 = 1.0
  config.penalty.r2 = 1.0
  config.model.discriminator_norm = 'none'
  for player in (config.generator, config.discriminator):
    player.b1 = 0.0
    player.b2 = 0.99


def _digits(config: ConfigDict) -> None:
  _r3gan(config)
  config.num_steps = 1500
  config.sample_every_steps = 150
  config.model.base_features = 32


def _cifar10(config: ConfigDict) -> None:
  _r3gan(config)
  config.num_steps = 200_000
  config.batch_size = 128
  config.ema_decay = 0.9999
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000
  config.dataset.name = 'cifar10'
  config.dataset.flip = True
  config.model.base_features = 128
  config.penalty.r1 = 0.05
  config.penalty.r2 = 0.05


def _smoke(config: ConfigDict) -> None:
  _r3gan(config)
  config.num_steps = 4
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.log_every_steps = 2
  config.sample_every_steps = 2
  config.checkpoint_every_steps = 2
