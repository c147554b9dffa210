r"""500 images: a discriminator that memorises them, and what helps.

  python -m gan_flax.main --config=configs/small.py[:VARIANT]
  python -m gan_flax.evaluate --workdir=runs/small[_VARIANT] \
      --features=classifier --metrics=fid

Trains on the first 500 images of TFDS mnist at 28x28. The FID to the 10,000
test images, in features of a classifier, tells what the variants are worth.

  (none)       ADA (Karras et al. 2020, arXiv:2006.06676). Not measured.
  none         No augmentation. Not measured.
  diffaugment  DiffAugment (Zhao et al. 2020, arXiv:2006.10738). Not measured.
  smoke        ADA on the digits at 16x16: a test run of a few seconds.
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
    '': _ada,
    'none': _none,
    'diffaugment': _diffaugment,
    'smoke': _smoke,
  }
  return of_variant(gan_config.default(), variants, variant)


def _none(config: ConfigDict) -> None:
  config.num_steps = 4000
  config.dataset.name = 'mnist'
  config.dataset.split = 'train[:500]'
  config.dataset.image_size = 28
  config.model.base_features = 16
  config.augmentation.name = 'none'


def _ada(config: ConfigDict) -> None:
  _none(config)
  config.augmentation.name = 'ada'
  config.augmentation.speed_images = 50_000


def _diffaugment(config: ConfigDict) -> None:
  _none(config)
  config.augmentation.name = 'diffaugment'
  config.augmentation.color = True
  config.augmentation.translation = True
  config.augmentation.cutout = True


def _smoke(config: ConfigDict) -> None:
  _ada(config)
  config.num_steps = 8
  config.batch_size = 16
  config.dataset.name = 'digits'
  config.dataset.split = 'train'
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
