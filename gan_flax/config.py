"""The configuration of a GAN: its fields, their defaults and their checks."""

import math

from etils import epath
from ml_collections import config_dict
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import optimisers
from common_flax import workdir as workdir_lib
from common_flax.alarms import ACTIONS
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.config import UserError
from common_flax.data.worlds import WORLDS
from common_flax.nn.labels import CONDITIONINGS
from common_flax.nn.norms import NORMS
from gan_flax.losses import LOSSES
from gan_flax.models import MODELS

MAX_SEEDS = 2**12
LATENTS = ('normal', 'uniform')


def _player() -> ConfigDict:
  """One player's Adam; the values are Radford et al.'s (2015)."""
  # The low momentum that DCGANs need.
  return optimisers.default(learning_rate=2e-4, b1=0.5, b2=0.999)


def default() -> ConfigDict:
  """Every field of a GAN's configuration, locked: DCGAN on the digits."""
  config = config_lib.base()
  config.num_seeds = 1  # runs at once, with the seeds from `seed` on
  config.on_collapse = 'warn'  # or 'stop', or 'rollback'; see `gan_flax.watch`
  config.on_collapse_max_rollbacks = 3  # then it stops

  config.model = model = ConfigDict()
  model.name = 'dcgan'
  model.latent_size = 100
  model.latent_distribution = 'normal'  # N(0, 1), or 'uniform', U(-1, 1)
  model.base_features = 64  # the paper's widths are 128
  model.kernel_size = 4  # the paper's is 5
  # 'batch', 'layer', 'group' or 'none'; None: the model's own
  model.generator_norm = config_dict.placeholder(str)
  model.discriminator_norm = 'batch'  # or as above
  model.spectral_norm = False  # of the discriminator's weights
  model.minibatch_deviation = False  # of neighbours, as a feature
  model.packing = 1  # examples that the discriminator sees at once
  model.conditioning = 'none'  # on labels: 'projection' or 'concatenation'

  config.loss = loss = ConfigDict()
  loss.name = 'non_saturating'  # see `gan_flax.losses`

  config.penalty = penalty = ConfigDict()  # of the discriminator
  penalty.gradient = 0.0  # WGAN-GP's λ
  penalty.r1 = 0.0  # γ, at real images
  penalty.r2 = 0.0  # at generated ones
  penalty.every_steps = 1  # paid that rarely, and so many times as much
  penalty.max_weight = config_dict.placeholder(float)  # None: no limit

  config.augmentation = augmentation = ConfigDict()  # see the module
  augmentation.color = False
  augmentation.translation = False
  augmentation.cutout = False

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
  _check_seeds(config)
  _check_model(config)
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
  require_at_most(
    config,
    config_lib.MAX_FEATURES,
    'model.latent_size',
    'model.base_features',
    'discriminator_steps',
  )
  require(
    config.model.kernel_size in (4, 5), config, 'model.kernel_size', 'is 4 or 5'
  )
  require_one_of(config, 'model.discriminator_norm', NORMS)
  if config.model.generator_norm is not None:
    require_one_of(config, 'model.generator_norm', NORMS)
  _check_conditioning(config)
  for player in ('generator', 'discriminator'):
    optimisers.check(config, player)
  _check_penalties(config)


def _check_seeds(config: ConfigDict) -> None:
  require_at_least(config, 1, 'num_seeds')
  require_at_most(config, MAX_SEEDS, 'num_seeds')
  require(
    config.seed + config.num_seeds <= 2**32,
    config,
    'num_seeds',
    f'the seeds after seed={config.seed} must be below 2^32',
  )
  require(
    config.num_seeds == 1 or config.parallelism == 'jit',
    config,
    'num_seeds',
    "several runs at once need parallelism='jit'",
  )
  require_one_of(config, 'on_collapse', ACTIONS)
  require(
    config.num_seeds == 1 or config.on_collapse == 'warn',
    config,
    'on_collapse',
    "several runs at once do not stop for one of them; take 'warn'",
  )
  require_at_least(config, 1, 'on_collapse_max_rollbacks')


def _check_model(config: ConfigDict) -> None:
  """Refuses networks that are not made for the data."""
  require_one_of(config, 'model.name', MODELS)
  model = MODELS[config.model.name]
  require(
    'kernel_size' in model.options
    or config.model.kernel_size == default().model.kernel_size,
    config,
    'model.kernel_size',
    f'means nothing to model.name={config.model.name}; leave it out',
  )
  if config.dataset.name in WORLDS:
    _check_points(config)
    return
  fitting = ' or '.join(k for k, v in MODELS.items() if not v.is_of_points)
  require(
    not model.is_of_points,
    config,
    'model.name',
    f'is made for points; for {config.dataset.name} take {fitting}',
  )
  try:
    model.check_image_size(config.dataset.image_size)
  except ValueError as error:
    raise UserError(f'config.dataset.image_size: {error}') from error


def _check_points(config: ConfigDict) -> None:
  """Refuses, for a world of points, what is made for images."""
  name = config.dataset.name
  fitting = ' or '.join(k for k, v in MODELS.items() if v.is_of_points)
  require(
    MODELS[config.model.name].is_of_points,
    config,
    'model.name',
    f'is made for images; for the points of {name} take {fitting}',
  )
  augmentation = config_lib.flatten(config.augmentation)
  for field in ('dataset.flip', *(f'augmentation.{k}' for k in augmentation)):
    require(
      not config_lib.flatten(config)[field],
      config,
      field,
      f'is for images, and {name} is of points',
    )


def _check_conditioning(config: ConfigDict) -> None:
  require_one_of(config, 'model.conditioning', CONDITIONINGS)
  conditioning = config.model.conditioning
  norm = config.model.generator_norm
  norm = norm or MODELS[config.model.name].generator_norm
  require(
    conditioning != 'projection' or norm == 'batch',
    config,
    'model.conditioning',
    f'is of a generator with batch norm, and its norm is {norm!r}; take '
    "'concatenation', or model.generator_norm='batch'",
  )
  require(
    conditioning == 'none' or config.model.packing == 1,
    config,
    'model.packing',
    'several examples have no label; leave it out, or model.conditioning',
  )


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


def read(workdir: epath.PathLike) -> ConfigDict:
  """The config of the run that a workdir holds, checked.

  Raises:
    UserError: if it holds none, or one that is wrong or cannot be read.
  """
  return workdir_lib.read_config(workdir, default(), check)
