"""The one-layer VAE and IWAE of Burda et al. (2015), arXiv:1509.00519, table 1.

python -m vae_flax.main --config=configs/vae_burda.py[:VARIANT]
"""

from ml_collections import ConfigDict

from vae_flax import config as vae_config

_IMAGES = 60_000


def get_config(variant: str = '') -> ConfigDict:
  """The configuration of a variant.

  Raises:
    ValueError: if there is no such variant.
  """
  variants = {'': _elbo, 'iwae_5': _iwae_5, 'smoke': _smoke}
  if variant not in variants:
    raise ValueError(
      f'no variant {variant!r}; take one of {", ".join(filter(None, variants))}'
    )
  config = vae_config.default().unlock()
  config.dataset.name = 'mnist'
  config.dataset.image_size = 28
  config.dataset.binarise = 'stochastic'
  config.model.name = 'mlp'
  config.model.latent_size = 50
  config.model.hidden_sizes = (200, 200)
  config.model.activation = 'tanh'
  config.optimizer.schedule = 'cosine'
  variants[variant](config)
  return config.lock()


def _elbo(config: ConfigDict) -> None:
  config.batch_size = 100
  config.steps_per_call = 20
  config.num_steps = 600 * _IMAGES // 100
  config.optimizer.learning_rate = 2e-3
  config.kl_warmup_steps = 20_000
  config.log_every_steps = 6000
  config.sample_every_steps = 60_000
  config.checkpoint_every_steps = 30_000


def _iwae_5(config: ConfigDict) -> None:
  _elbo(config)
  config.num_steps = 400 * _IMAGES // 100
  config.kl_warmup_steps = 0
  config.objective = 'iwae'
  config.num_importance_samples = 5


def _smoke(config: ConfigDict) -> None:
  config.dataset.name = 'digits'
  config.steps_per_call = 2
  config.num_steps = 8
  config.batch_size = 16
  config.log_every_steps = 2
  config.sample_every_steps = 4
  config.checkpoint_every_steps = 4
