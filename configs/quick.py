"""The best pictures for a few minutes of compute.

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

Measured on 2 cores of a shared x86 CPU (AVX-512) on 28 November 2026, while it
ran at a third of its best speed; FIDs of 10,000 samples in the features of a
classifier of the data, against the test images:

  (none)   The embedded digits at 32x32, with R3GAN's objective. 3 min 5 s from
           command to end, with nothing compiled before, at 500 images/s. FID
           2.5, where training images score 2.1 and `configs/dcgan.py` 7.3 in
           about the same time; 99.0 % are classified as the requested digit.
  mnist    TFDS mnist at 28x28, padded to 32x32 in the networks. With
           `--max_minutes=5` FID 0.98 and 0.83 (seeds 0 and 1), rarest class
           9.7 %; training images score 0.18, and a plain PyTorch DCGAN 25.7 and
           10.9 after the same time, see `benchmarks/README.md`.
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
