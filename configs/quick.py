"""The best pictures for a minute or two of compute.

  python -m gan_flax.main --config=configs/quick.py[:VARIANT]
  python -m gan_flax.sample --workdir=runs/quick[_VARIANT] --num_samples=80
      --output=samples.png
  python -m gan_flax.main --config=configs/quick.py:mnist --max_minutes=5

DCGAN's networks (Radford et al. 2015, arXiv:1511.06434; UDL 15.1.3) with the
settings that gave the best samples after the same time on a CPU: narrow
layers and small batches, because many steps are worth more than wide layers;
five times the usual learning rate, which falls to 0 along a cosine; and, where
there are labels, class-conditional batch norm with a projection discriminator
(Miyato & Koyama 2018, arXiv:1802.05637).

RESULTS

  (none)   The embedded digits at 32x32.
  mnist    TFDS mnist at 28x28, as networks of 32x32 pixels.
  folder   Your images at 32x32, without labels. Not measured.
  smoke    The digits at 16x16: a test run of a few seconds.

`python -m common_flax.prepare --dataset=mnist` prepares mnist once. The folder
variant needs `--config.dataset.path=FOLDER`. If the folder has a sub-folder for
each class, add `--config.model.conditioning=projection`.
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
    'mnist': _mnist,
    'folder': _folder,
    'smoke': _smoke,
  }
  return of_variant(gan_config.default(), variants, variant)


def _quick(config: ConfigDict) -> None:
  config.batch_size = 32
  config.model.base_features = 32
  for player in (config.generator, config.discriminator):
    player.learning_rate = 1e-3
    player.schedule = 'cosine'


def _digits(config: ConfigDict) -> None:
  """Adds R3GAN's objective, without which 1,500 images are memorised."""
  _quick(config)
  config.num_steps = 2500
  config.sample_every_steps = 250
  config.model.conditioning = 'projection'
  config.model.discriminator_norm = 'none'
  config.loss.name = 'relativistic'
  config.penalty.r1 = 0.3
  config.penalty.r2 = 0.3
  for player in (config.generator, config.discriminator):
    player.b1 = 0.0
    player.b2 = 0.99


def _mnist(config: ConfigDict) -> None:
  _quick(config)
  config.num_steps = 10_000
  config.dataset.name = 'mnist'
  config.dataset.image_size = 28
  config.model.grid_size = 32
  config.model.conditioning = 'projection'


def _folder(config: ConfigDict) -> None:
  _quick(config)
  config.num_steps = 10_000
  config.dataset.name = 'folder'
  config.dataset.flip = True


def _smoke(config: ConfigDict) -> None:
  _digits(config)
  config.num_steps = 8
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
