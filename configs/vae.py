"""Convolutional VAEs (Kingma & Welling 2013, arXiv:1312.6114; UDL 17).

  python -m vae_flax.main --config=configs/vae.py[:VARIANT]

Measured on 2 cores of a shared x86 CPU (AVX-512) on 22 November 2026:

  (none)             The embedded digits at 32x32, binarised by a threshold, β =
                     4. 2 min at about 2,100 images/s. Readable samples and
                     reconstructions.
  digits_2d          The same with 2 latents, for pictures of the manifold. Not
                     measured.
  conditional        The digits, whose class both networks are told. 85 s on 29
                     November, with other work beside. A readable row of each
                     class.
  mnist              TFDS mnist at 32x32, binarised at random. Not measured.
  mnist_2d           The same with 2 latents. Not measured.
  mnist_conditional  As mnist, and told the class. Not measured.
  cifar10            TFDS cifar10 with the discretised logistic likelihood, for
                     a GPU. Not measured.
  celeba             TFDS celeb_a at 64x64, the same likelihood, for a GPU. Not
                     measured.
  folder             Your images at 64x64, the same likelihood, for a GPU. Not
                     measured.
  smoke              The digits at 16x16: a test run of a few seconds.

Prepare a TFDS dataset once before use, for example with
`python -m common_flax.prepare --dataset=mnist`. The folder variant needs
`--config.dataset.path=FOLDER`.
"""

from ml_collections import ConfigDict

from common_flax.config import of_variant
from vae_flax import config as vae_config


def get_config(variant: str = '') -> ConfigDict:
  """Returns the configuration of a variant.

  Raises:
    ValueError: if the variant is unknown.
  """
  variants = {
    '': _digits,
    'digits_2d': _digits_2d,
    'conditional': _conditional,
    'smoke': _smoke,
    'mnist': _mnist,
    'mnist_2d': _mnist_2d,
    'mnist_conditional': _mnist_conditional,
    'cifar10': _cifar10,
    'celeba': _celeba,
    'folder': _folder,
  }
  return of_variant(vae_config.default(), variants, variant)


def _digits(config: ConfigDict) -> None:
  config.num_steps = 3000
  config.sample_every_steps = 300
  config.dataset.binarise = 'threshold'
  config.model.latent_size = 8
  config.model.base_features = 16
  # The digits are 8x8 originally, so pixels at 32x32 are far from independent.
  # A likelihood that assumes independence outweighs the prior unless β > 1.
  config.beta = 4.0
  config.optimizer.schedule = 'cosine'


def _digits_2d(config: ConfigDict) -> None:
  _digits(config)
  config.model.latent_size = 2


def _conditional(config: ConfigDict) -> None:
  _digits(config)
  config.model.conditioning = 'label'


def _smoke(config: ConfigDict) -> None:
  config.num_steps = 8
  config.batch_size = 16
  config.dataset.image_size = 16
  config.model.base_features = 4
  config.model.latent_size = 4
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
  config.evaluation_samples = 60


def _mnist(config: ConfigDict) -> None:
  config.num_steps = 5000
  config.batch_size = 128
  config.dataset.name = 'mnist'
  config.optimizer.schedule = 'cosine'


def _mnist_2d(config: ConfigDict) -> None:
  _mnist(config)
  config.model.latent_size = 2


def _mnist_conditional(config: ConfigDict) -> None:
  _mnist(config)
  config.model.conditioning = 'label'


def _grey_or_colour(config: ConfigDict) -> None:
  """Sets what all variants on 8-bit images share."""
  config.dataset.binarise = 'none'
  config.likelihood = 'logistic'
  config.num_steps = 100_000
  config.batch_size = 128
  config.sample_every_steps = 2000
  config.checkpoint_every_steps = 5000
  config.model.latent_size = 128
  config.model.base_features = 64
  config.kl_warmup_steps = 5000
  config.dataset.flip = True


def _cifar10(config: ConfigDict) -> None:
  _grey_or_colour(config)
  config.dataset.name = 'cifar10'


def _celeba(config: ConfigDict) -> None:
  _grey_or_colour(config)
  config.dataset.name = 'celeb_a'
  config.dataset.image_size = 64


def _folder(config: ConfigDict) -> None:
  _grey_or_colour(config)
  config.num_steps = 20_000
  config.dataset.name = 'folder'
  config.dataset.image_size = 64
