"""Hierarchical VAEs (Sønderby et al. 2016, Vahdat & Kautz 2020, Child 2021).

  python -m vae_flax.main --config=configs/hvae.py[:VARIANT]

Latents come in groups at several sides, and the prior of each is computed from
all groups above it; see `vae_flax/models/hierarchical.py`. `model.groups`
lists the scales, coarse ones first, as (side, width, number of groups,
channels of a group).

  (none)      The embedded digits at 28x28, binarised at random. Not measured.
  mnist       TFDS mnist at 28x28, binarised at random, 85 epochs. Measured on 2
              cores of a shared x86 CPU (AVX-512) with other work beside, on 29
              November 2026: 104 min at about 850 images/s, 1,070 alone. -log
              Pr(x) of the 10,000 test images from 100 samples each is at most
              81.47 nats (81.74 of Sønderby et al.), the ELBO -84.02; every
              group has more than 2.5 nats.
  mnist_top   Its control: the same networks with latents at the top alone, two
              groups of 16. 64 min at about 1,400 images/s, with other work
              beside. At most 81.76 nats, ELBO -84.90: 0.3 and 0.9 worse.
  mnist_gpu   More groups and wider networks, for a GPU. Not measured.
  cifar10     TFDS cifar10 at 32x32 with a mixture of discretised logistics, for
              a GPU. Not measured; 200 steps of 8 images of the data set stacked
              are finite in float32 and bfloat16.
  smoke       The digits at 16x16: a test run of a few seconds.
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
    'mnist': _mnist,
    'mnist_top': _mnist_top,
    'mnist_gpu': _mnist_gpu,
    'cifar10': _cifar10,
    'smoke': _smoke,
  }
  return of_variant(vae_config.default(), variants, variant)


def _hierarchy(config: ConfigDict) -> None:
  """Sets what all variants share."""
  config.model.name = 'hierarchical'
  config.model.activation = 'gelu'
  config.dataset.image_size = 28
  config.batch_size = 128
  config.optimizer.schedule = 'cosine'
  config.optimizer.max_grad_norm = 200.0
  config.evaluation_samples = 1000


def _digits(config: ConfigDict) -> None:
  _hierarchy(config)
  config.num_steps = 2000
  config.kl_warmup_steps = 500
  config.free_bits_nats = 0.25
  config.model.groups = ((1, 128, 2, 16), (7, 64, 2, 4))


def _mnist(config: ConfigDict) -> None:
  _hierarchy(config)
  config.dataset.name = 'mnist'
  config.model.groups = ((1, 128, 2, 16), (7, 64, 4, 8))
  config.num_steps = 40_000
  config.optimizer.learning_rate = 2e-3
  config.kl_warmup_steps = 4000
  config.free_bits_nats = 0.25
  config.ema_decay = 0.9995
  config.log_every_steps = 500
  config.sample_every_steps = 10_000
  config.checkpoint_every_steps = 1000


def _mnist_top(config: ConfigDict) -> None:
  _mnist(config)
  config.model.groups = ((1, 128, 2, 16), (7, 64, 4, 0))


def _mnist_gpu(config: ConfigDict) -> None:
  _mnist(config)
  config.model.groups = ((1, 256, 3, 16), (7, 128, 6, 8), (14, 64, 6, 4))
  config.num_steps = 200_000


def _cifar10(config: ConfigDict) -> None:
  _hierarchy(config)
  config.dataset.name = 'cifar10'
  config.dataset.image_size = 32
  config.dataset.binarise = 'none'
  config.dataset.flip = True
  config.likelihood = 'logistic_mixture'
  config.model.groups = (
    (1, 256, 2, 16),
    (4, 256, 4, 16),
    (8, 128, 6, 16),
    (16, 64, 3, 16),
  )
  config.num_steps = 200_000
  config.kl_warmup_steps = 10_000


def _smoke(config: ConfigDict) -> None:
  _hierarchy(config)
  config.dataset.image_size = 16
  config.model.groups = ((1, 8, 2, 4), (4, 4, 1, 2), (8, 4, 1, 1))
  config.num_steps = 8
  config.batch_size = 16
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
  config.evaluation_samples = 60
