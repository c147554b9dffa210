"""DCGAN (Radford et al. 2015, arXiv:1511.06434; UDL 15.1.3).

  python -m gan_flax.main --config=configs/dcgan.py[:VARIANT]

variant   data                        hardware and time     result
(none)    8x8 digits at 32x32         @DIGITS@
mnist     TFDS mnist at 32x32         @MNIST@
cifar10   TFDS cifar10                not measured          not measured
celeba    TFDS celeb_a at 64x64, the  not measured          not measured
          paper's widths and kernels
folder    your images at 64x64        @FOLDER@
smoke     8x8 digits at 16x16         2 CPU cores, seconds  none: it shows that
                                                            everything works

The TFDS variants need the data set prepared once, for example with
`python -m common_flax.prepare --dataset=mnist`; the folder variant needs
`--config.dataset.path=FOLDER`.
"""

from ml_collections import ConfigDict

from gan_flax import config as gan_config


def get_config(variant: str = '') -> ConfigDict:
  """The configuration of a variant.

  Raises:
    ValueError: if there is no such variant.
  """
  variants = {
    '': _digits,
    'smoke': _smoke,
    'mnist': _mnist,
    'cifar10': _cifar10,
    'celeba': _celeba,
    'folder': _folder,
  }
  if variant not in variants:
    raise ValueError(
      f'no variant {variant!r}; take one of {", ".join(filter(None, variants))}'
    )
  config = gan_config.default().unlock()
  variants[variant](config)
  return config.lock()


def _digits(config: ConfigDict) -> None:
  config.num_steps = 2000
  config.model.base_features = 32
  config.sample_every_steps = 200


def _smoke(config: ConfigDict) -> None:
  config.num_steps = 8
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4


def _mnist(config: ConfigDict) -> None:
  config.num_steps = 4000
  config.dataset.name = 'mnist'


def _cifar10(config: ConfigDict) -> None:
  config.num_steps = 100_000
  config.batch_size = 128
  config.ema_decay = 0.9999
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000
  config.dataset.name = 'cifar10'
  config.dataset.flip = True


def _celeba(config: ConfigDict) -> None:
  config.num_steps = 100_000
  config.batch_size = 128
  config.ema_decay = 0.9999
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000
  config.dataset.name = 'celeb_a'
  config.dataset.image_size = 64
  config.model.latent_distribution = 'uniform'
  config.model.base_features = 128
  config.model.kernel_size = 5


def _folder(config: ConfigDict) -> None:
  config.num_steps = 20_000
  config.dataset.name = 'folder'
  config.dataset.image_size = 64
  config.dataset.flip = True
