"""1,000 modes: three digits stacked into a colour image (UDL 15.2.2).

  python -m gan_flax.main --config=configs/stacked.py[:VARIANT]
  python -m gan_flax.evaluate --workdir=runs/stacked[_VARIANT]

The data are those of Metz et al. (2017, arXiv:1611.02163). Modes are counted as
in PacGAN (Lin et al. 2018, arXiv:1712.04086): 26,000 samples, with a classifier
applied to each channel. The remedy for mode collapse is R3GAN's objective: a
relativistic loss with gradient penalties at real and generated images (Huang et
al. 2024, arXiv:2501.05441), which needs a discriminator without batch norm.

Measured on 2 cores of a shared x86 CPU (AVX-512) on 28 November 2026, while
other work kept them busy, with seeds 0, 1 and 2:

  (none)         Stacks of the embedded digits at 16x16. 999, 999 and 1,000
                 modes, KL 0.21, 0.18 and 0.18 nats; real stacks have 1,000
                 modes and KL 0.03. 3 min 33 s for seed 0 when alone,
                 start and compiling included.
  control        A plain DCGAN with the same widths, batches and steps. 950, 967
                 and 977 modes, KL 0.57, 0.57 and 0.46 nats.
  mnist          Stacks of TFDS mnist at 28x28 with PacGAN's sizes, steps and
                 batches, for a GPU. Not measured; the target is 1,000 modes and
                 KL 0.06.
  mnist_control  The same with a plain DCGAN. Not measured; the papers report 79
                 and 99 modes.
  smoke          The digits at 16x16: a test run of a few seconds.
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
    'control': _control,
    'mnist': _mnist,
    'mnist_control': _mnist_control,
    'smoke': _smoke,
  }
  return of_variant(gan_config.default(), variants, variant)


def _control(config: ConfigDict) -> None:
  config.num_steps = 8000
  config.batch_size = 32
  config.sample_every_steps = 1000
  config.dataset.name = 'stacked'
  config.dataset.image_size = 16
  config.model.base_features = 16


def _objective(config: ConfigDict) -> None:
  config.loss.name = 'relativistic'
  config.penalty.r1 = 1.0
  config.penalty.r2 = 1.0
  config.model.discriminator_norm = 'none'
  for player in (config.generator, config.discriminator):
    player.learning_rate = 5e-4
    player.b1 = 0.0
    player.schedule = 'cosine'


def _digits(config: ConfigDict) -> None:
  """Adds the settings of `configs/quick.py`, and minibatch deviation."""
  _control(config)
  _objective(config)
  config.penalty.r1 = 0.3
  config.penalty.r2 = 0.3
  config.model.minibatch_deviation = True
  for player in (config.generator, config.discriminator):
    player.learning_rate = 1e-3
    player.b2 = 0.99


def _mnist_control(config: ConfigDict) -> None:
  """Sets PacGAN's 50 epochs of 2,000 batches."""
  config.num_steps = 100_000
  config.log_every_steps = 500
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000
  config.dataset.name = 'stacked'
  config.dataset.stack_of = 'mnist'
  config.dataset.image_size = 28
  config.model.latent_distribution = 'uniform'
  config.model.kernel_size = 5


def _mnist(config: ConfigDict) -> None:
  _mnist_control(config)
  _objective(config)


def _smoke(config: ConfigDict) -> None:
  _digits(config)
  config.num_steps = 8
  config.batch_size = 16
  config.model.base_features = 4
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
