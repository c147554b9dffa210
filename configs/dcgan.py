"""DCGAN (Radford et al. 2015, arXiv:1511.06434; UDL 15.1.3).

  python -m gan_flax.main --config=configs/dcgan.py[:VARIANT]

Measured on 2 cores of a shared x86 CPU (AVX-512) on 22 November 2026, with
`benchmarks.class_shares` on 1,000 samples:

  (none)   The embedded digits at 32x32. 2 min at 1,000 to 1,400 images/s.
           Readable from step 600; rarest class 6.7 %, most frequent 12.2 %.
           The rarest class of seeds 0, 1 and 2 has 6.7, 6.5 and 6.7 %, and in
           bfloat16 7.0, 7.9 and 6.6 % (26 November).
  mnist    TFDS mnist at 28x28, padded to 32x32 in the networks, with the
           settings of `configs/quick.py` but no labels. With `--max_minutes=5`
           (28 November, beside other work, seeds 0 and 1) FID 3.7 and 3.8 in
           the features of a classifier, where training images score 0.18, and
           a plain PyTorch DCGAN 33.8 and 18.9 after the same time, see
           `benchmarks/README.md`. The whole run is not measured.
  cifar10  TFDS cifar10, for a GPU. Not measured.
  celeba   TFDS celeb_a at 64x64 with the paper's widths, kernels and latents,
           for a GPU. Not measured.
  folder   Your images at 64x64, for a GPU. Trains on 500 photographs for 300
           steps without failing; the result is not measured.
  smoke    The digits at 16x16: a test run of a few seconds.

Prepare a TFDS dataset once before use, for example with
`python -m common_flax.prepare --dataset=mnist`. The folder variant needs
`--config.dataset.path=FOLDER`.
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
    'smoke': _smoke,
    'mnist': _mnist,
    'cifar10': _cifar10,
    'celeba': _celeba,
    'folder': _folder,
  }
  return of_variant(gan_config.default(), variants, variant)


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
  """Narrow layers, small batches, a high rate that falls to 0: see quick.py."""
  config.num_steps = 10_000
  config.batch_size = 32
  config.model.base_features = 32
  config.model.grid_size = 32
  config.dataset.name = 'mnist'
  config.dataset.image_size = 28
  for player in (config.generator, config.discriminator):
    player.learning_rate = 1e-3
    player.schedule = 'cosine'


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
