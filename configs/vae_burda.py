"""The one-layer VAE and IWAE of Burda et al. (2015), arXiv:1509.00519, table 1.

  python -m vae_flax.main --config=configs/vae_burda.py[:VARIANT]
  python -m vae_flax.evaluate --workdir=runs/vae_burda[_VARIANT]
      --metrics=likelihood

784-200-200-50 networks with tanh on TFDS mnist at 28x28. Each step samples
binary pixels with the grey values as probabilities. Architecture, data and
evaluation follow the paper. Batch size, learning rate schedule and length of
training differ (the paper: batches of 20 for 3,280 epochs). So do the KL
divergence, which is in closed form with a warm-up, and the evaluated weights,
which are a moving average.

Measured on one core of a shared x86 CPU (AVX-512), with the other core busy, on
23 and 25 November 2026. Numbers are -log Pr(x) of the 10,000 test images,
estimated from 5,000 samples each:

  (none)  The ELBO, 900 epochs in 57 min. 86.76 nats, 22 active units (paper:
          86.76, 19). 600 epochs: 86.93 nats, 24 units.
  iwae_5  The importance-weighted bound with 5 samples, 900 epochs in 75 min.
          85.81 nats, 20 active units (paper: 85.54, 22). At twice the learning
          rate, 900 epochs gave 85.87 nats and 19 units, 600 epochs 86.11 nats.
  smoke   The digits: a test run of a few seconds.
"""

from ml_collections import ConfigDict

from common_flax.config import of_variant
from vae_flax import config as vae_config

_IMAGES = 60_000


def get_config(variant: str = '') -> ConfigDict:
  """Returns the configuration of a variant.

  Raises:
    ValueError: if the variant is unknown.
  """
  variants = {'': _elbo, 'iwae_5': _iwae_5, 'smoke': _smoke}
  return of_variant(vae_config.default(), variants, variant)


def _burda(config: ConfigDict) -> None:
  config.dataset.name = 'mnist'
  config.dataset.image_size = 28
  config.dataset.binarise = 'stochastic'
  config.model.name = 'mlp'
  config.model.latent_size = 50
  config.model.hidden_sizes = (200, 200)
  config.model.activation = 'tanh'
  config.optimizer.schedule = 'cosine'


def _elbo(config: ConfigDict) -> None:
  _burda(config)
  config.batch_size = 100
  config.steps_per_call = 20
  config.num_steps = 900 * _IMAGES // 100
  config.optimizer.learning_rate = 2e-3
  config.kl_warmup_steps = 20_000
  config.log_every_steps = 6000
  config.sample_every_steps = 60_000
  config.checkpoint_every_steps = 30_000


def _iwae_5(config: ConfigDict) -> None:
  _elbo(config)
  config.optimizer.learning_rate = 1e-3  # 85.87 nats at twice this rate
  config.kl_warmup_steps = 0
  config.objective = 'iwae'
  config.num_importance_samples = 5


def _smoke(config: ConfigDict) -> None:
  _burda(config)
  config.dataset.name = 'digits'
  config.steps_per_call = 2
  config.num_steps = 8
  config.evaluation_samples = 60
  config.batch_size = 16
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
