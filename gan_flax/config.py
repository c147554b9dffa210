"""The configuration of a GAN: its fields, their defaults and their checks."""

import math

from ml_collections import config_dict
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import optimisers
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_one_of
from common_flax.config import UserError
from common_flax.nn.norms import NORMS
from gan_flax.losses import LOSSES
from gan_flax.models import MODELS

LATENTS = ('normal', 'uniform')


def _player() -> ConfigDict:
  """One player's Adam; the values are Radford et al.'s (2015)."""
  # The low momentum that DCGANs need.
  return optimisers.default(learning_rate=2e-4, b1=0.5, b2=0.999)


def default() -> ConfigDict:
  """Every field of a GAN's configuration, locked: DCGAN on the digits."""
  config = config_lib.base()

  config.model = model = ConfigDict()
  model.name = 'dcgan'
  model.latent_size = 100
  model.latent_distribution = 'normal'  # N(0, 1), or 'uniform', U(-1, 1)
  model.base_features = 64  # the paper's widths are 128
  model.kernel_size = 4  # the paper's is 5
  model.discriminator_norm = 'batch'  # or 'layer', 'group', 'none'
  model.spectral_norm = False  # of the discriminator's weights
  model.packing = 1  # images that the discriminator sees at once

  config.loss = loss = ConfigDict()
  loss.name = 'non_saturating'  # see `gan_flax.losses`

  config.penalty = penalty = ConfigDict()  # of the discriminator
  penalty.gradient = 0.0  # WGAN-GP's λ
  penalty.r1 = 0.0  # γ, at real images
  penalty.r2 = 0.0  # at generated ones
  penalty.every_steps = 1  # paid that rarely, and so many times as much
  penalty.max_weight = config_dict.placeholder(float)  # None: no limit

  config.generator = _player()
  config.discriminator = _player()
  config.discriminator_steps = 1  # discriminator updates a generator update
  return config.lock()


def check(config: ConfigDict) -> None:
  """Checks every field of a GAN's configuration.

  Raises:
    UserError: naming the first field that is wrong.
  """
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  require_one_of(config, 'model.name', MODELS)
  try:
    MODELS[config.model.name].check_image_size(config.dataset.image_size)
  except ValueError as error:
    raise UserError(f'config.dataset.image_size: {error}') from error
  require_one_of(config, 'model.latent_distribution', LATENTS)
  require_one_of(config, 'loss.name', LOSSES)
  require_at_least(
    config,
    1,
    'model.latent_size',
    'model.base_features',
    'model.packing',
    'discriminator_steps',
  )
  require(
    config.model.kernel_size in (4, 5), config, 'model.kernel_size', 'is 4 or 5'
  )
  require_one_of(config, 'model.discriminator_norm', NORMS)
  for player in ('generator', 'discriminator'):
    optimisers.check(config, player)
  _check_penalties(config)


def _check_penalties(config: ConfigDict) -> None:
  penalty = config.penalty
  weights = ('gradient', 'r1', 'r2')
  for name in weights:
    require(
      0 <= penalty[name] < math.inf,
      config,
      f'penalty.{name}',
      'must be at least 0 and finite',
    )
  require(
    penalty.max_weight is None or penalty.max_weight > 0,
    config,
    'penalty.max_weight',
    'must be above 0; leave it out for no limit',
  )
  require_at_least(config, 1, 'penalty.every_steps')
  is_penalised = any(penalty[name] for name in weights)
  require(
    is_penalised or penalty.every_steps == 1,
    config,
    'penalty.every_steps',
    'there is no penalty.gradient, penalty.r1 or penalty.r2 to pay',
  )
  require(
    not is_penalised or config.model.discriminator_norm != 'batch',
    config,
    'model.discriminator_norm',
    'is of whole batches, and penalties are of the slope at each image: take '
    "'layer', 'group' or 'none'",
  )
  is_bounded = (
    penalty.gradient or penalty.max_weight or config.model.spectral_norm
  )
  require(
    is_bounded or not LOSSES[config.loss.name].needs_bound,
    config,
    'loss.name',
    'needs a discriminator of bounded slope: set penalty.gradient=10.0, '
    'penalty.max_weight=0.01 or model.spectral_norm=True',
  )


def has_fixed_steps(config: ConfigDict) -> bool:
  """Whether a schedule depends on `num_steps`, so that it may not change."""
  players = (config.generator, config.discriminator)
  return any(player.schedule != 'constant' for player in players)
