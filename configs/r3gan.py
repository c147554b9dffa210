"""R3GAN: residual networks without norms, a relativistic loss, R1 and R2.

  python -m gan_flax.main --config=configs/r3gan.py[:VARIANT]

The loss of Huang et al. (2024), arXiv:2501.05441, equations 2 and 3, and the
paper's networks (`gan_flax/models/r3gan.py`). As in the paper, γ falls to a
tenth, the learning rate to a quarter, Adam's b2 rises from 0.9 to 0.99, and the
half-life of the moving average grows, all along a cosine. The paper also
augments images, which these variants do not.

  (none)   The embedded digits at 16x16, with narrow networks for a CPU.
           Measured on 2 cores of a shared x86 CPU (AVX-512) on 28 November
           2026, beside other work: FID 9.0, precision 0.61 in the features of a
           classifier (real digits: 2.9, 0.89). `configs/quick.py` draws better
           digits in less time.
  stacked  1,000 modes: stacks of three TFDS mnist digits at 32x32, with the
           paper's γ of 1, narrower networks; for a GPU. Not measured.
  cifar10  TFDS cifar10 with the paper's widths, for a GPU. Not measured.
  dcgan    The objective with DCGAN's networks, at 32x32. Measured on one core
           of a shared x86 CPU (AVX-512) on 23 November 2026, with
           `benchmarks.class_shares` on 1,000 samples: 7 min at about 350
           images/s, with the other core busy. Readable; rarest class 8.2 %,
           most frequent 13.3 % (`configs/dcgan.py`: 6.7 and 12.2 %).
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
  variants = {
    '': _digits,
    'stacked': _stacked,
    'cifar10': _cifar10,
    'dcgan': _dcgan,
    'smoke': _smoke,
  }
  return of_variant(gan_config.default(), variants, variant)


def _objective(config: ConfigDict) -> None:
  config.loss.name = 'relativistic'
  config.penalty.r1 = 1.0
  config.penalty.r2 = 1.0
  config.model.discriminator_norm = 'none'
  for player in (config.generator, config.discriminator):
    player.b1 = 0.0
    player.b2 = 0.99


def _r3gan(config: ConfigDict) -> None:
  _objective(config)
  config.model.name = 'r3gan'
  config.model.latent_size = 64
  config.ema_schedule = 'cosine'
  for player in (config.generator, config.discriminator):
    player.schedule = 'cosine'
    player.final_share = 0.25
    player.b2 = 0.9
    player.final_b2 = 0.99
  config.penalty.final_share = 0.1


def _digits(config: ConfigDict) -> None:
  _r3gan(config)
  config.num_steps = 1500
  config.batch_size = 32
  config.sample_every_steps = 150
  config.dataset.image_size = 16
  config.ema_decay = 0.99
  config.model.base_features = 32
  config.model.blocks_per_stage = 1
  config.penalty.r1 = 0.3
  config.penalty.r2 = 0.3
  for player in (config.generator, config.discriminator):
    player.learning_rate = 1e-3


def _for_gpu(config: ConfigDict) -> None:
  _r3gan(config)
  config.batch_size = 512
  config.log_every_steps = 500
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000


def _stacked(config: ConfigDict) -> None:
  _for_gpu(config)
  config.num_steps = 20_000
  config.dataset.name = 'stacked'
  config.dataset.stack_of = 'mnist'
  config.model.base_features = 256


def _cifar10(config: ConfigDict) -> None:
  """Sets 20 million images, after which the paper's schedules are constant."""
  _for_gpu(config)
  config.num_steps = 40_000
  config.ema_decay = 0.9999  # 512 images a step: a half-life of 3.5 million
  config.dataset.name = 'cifar10'
  config.dataset.flip = True
  config.model.base_features = 768
  config.penalty.r1 = 0.05
  config.penalty.r2 = 0.05


def _dcgan(config: ConfigDict) -> None:
  _objective(config)
  config.num_steps = 1500
  config.sample_every_steps = 150
  config.model.base_features = 32


def _smoke(config: ConfigDict) -> None:
  _r3gan(config)
  config.num_steps = 4
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.model.blocks_per_stage = 1
  config.model.group_size = 4
  config.log_every_steps = 2
  config.sample_every_steps = 2
  config.checkpoint_every_steps = 2
