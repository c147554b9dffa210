"""Checks of a GAN's configuration: values, and what fits together."""

import math

from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import images
from common_flax import optimisers
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.nn.norms import NORMS
from common_flax.training.health import ACTIONS
from gan_flax.augmentation import AUGMENTATIONS
from gan_flax.augmentation import GROUPS
from gan_flax.config.fields import default
from gan_flax.losses import LOSSES
from gan_flax.models import MODELS
from gan_flax.models import r3gan
from gan_flax.models.conditioning import CONDITIONINGS
from gan_flax.models.discriminators import GROUP_SIZE

MAX_SEEDS = 2**12
LATENTS = ('normal', 'uniform')
EMA_SCHEDULES = ('warmup', 'cosine')


def check(config: ConfigDict) -> None:
  """Checks every field, but not whether it has an effect, see EFFECTS.

  Raises:
    UserError: if a field is invalid; names the first one.
  """
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  _check_seeds(config)
  _check_model(config)
  require_one_of(config, 'model.latent_distribution', LATENTS)
  require_one_of(config, 'loss.name', LOSSES)
  sizes = (
    'model.latent_size',
    'model.base_features',
    'model.blocks_per_stage',
    'model.group_size',
    'discriminator_steps',
  )
  require_at_least(config, 1, 'model.packing', *sizes)
  require_at_most(config, config_lib.MAX_FEATURES, *sizes)
  _check_groups_of_features(config)
  require(
    config.model.kernel_size in (4, 5),
    config,
    'model.kernel_size',
    'must be 4 or 5',
  )
  require_one_of(config, 'model.discriminator_norm', NORMS)
  if config.model.generator_norm is not None:
    require_one_of(config, 'model.generator_norm', NORMS)
  _check_conditioning(config)
  _check_augmentation(config)
  require_one_of(config, 'ema_schedule', EMA_SCHEDULES)
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
    f'all seeds must be below 2^32, and seed={config.seed} is the first one',
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
    "several runs at once cannot stop for one of them; use 'warn'",
  )
  require_at_least(config, 1, 'on_collapse_max_rollbacks')
  require(
    config.num_seeds == 1 or config.evaluate_every_steps == 0,
    config,
    'evaluate_every_steps',
    'scoring needs a single run; set it to 0, or num_seeds to 1',
  )


def _check_model(config: ConfigDict) -> None:
  """Checks that the networks fit the data."""
  require_one_of(config, 'model.name', MODELS)
  model = MODELS[config.model.name]
  if config.dataset.name in WORLDS:
    _check_points(config)
    return
  fitting = ' or '.join(k for k, v in MODELS.items() if not v.is_of_points)
  require(
    not model.is_of_points,
    config,
    'model.name',
    f'is a model of points; for the images of {config.dataset.name} use '
    f'{fitting}',
  )
  least = images.MIN_DOUBLED_SIDE
  require(
    min(images.sides(config.dataset.image_size)) >= least,
    config,
    'dataset.image_size',
    f'model.name={config.model.name} needs at least {least} pixels a side',
  )
  if config.model.grid_size is not None:
    _check_grid(config)


def _check_grid(config: ConfigDict) -> None:
  """Checks that images fit on `model.grid_size` and networks can halve it."""
  size, image_size = config.model.grid_size, config.dataset.image_size
  pairs = zip(images.sides(size), images.sides(image_size), strict=True)
  require(
    all(large >= small for large, small in pairs),
    config,
    'model.grid_size',
    f'must be at least dataset.image_size={image_size}',
  )
  try:
    images.doublings(size)
  except ValueError as error:
    raise UserError(f'config.model.grid_size={size}: {error}') from error


def _check_groups_of_features(config: ConfigDict) -> None:
  """Checks that the features of R3GAN's networks split into groups."""
  if config.model.name != 'r3gan':
    return
  try:
    r3gan.check_sizes(
      images.grid_size(config.dataset.image_size, config.model.grid_size),
      config.model.base_features,
      config.model.group_size,
    )
  except ValueError as error:
    raise UserError(f'config.model.{error}') from error


def _check_points(config: ConfigDict) -> None:
  """Checks that a world of points gets no networks that need images."""
  name = config.dataset.name
  fitting = ' or '.join(k for k, v in MODELS.items() if v.is_of_points)
  require(
    MODELS[config.model.name].is_of_points,
    config,
    'model.name',
    f'is a model of images; for the points of {name} use {fitting}',
  )
  require(
    config.augmentation.name != 'ada',
    config,
    'augmentation.name',
    f"distorts images only, and {name} contains points; use 'none'",
  )


def _check_conditioning(config: ConfigDict) -> None:
  require_one_of(config, 'model.conditioning', CONDITIONINGS)
  conditioning = config.model.conditioning
  model = MODELS[config.model.name]
  norm = config.model.generator_norm or model.generator_norm
  require(
    conditioning != 'projection' or norm == 'batch' or not model.has_norms,
    config,
    'model.conditioning',
    f'needs batch norm in the generator, whose norm is {norm!r}; use '
    "'concatenation' or model.generator_norm='batch'",
  )
  require(
    conditioning == 'none' or config.model.packing == 1,
    config,
    'model.packing',
    'a pack of several examples has no single label; set it to 1, or '
    "model.conditioning to 'none'",
  )


def _check_augmentation(config: ConfigDict) -> None:
  require_one_of(config, 'augmentation.name', AUGMENTATIONS)
  augmentation = config.augmentation
  if augmentation.name != 'ada':
    return
  groups = augmentation.groups
  require(
    bool(groups) and len({*groups} & {*GROUPS}) == len(groups),
    config,
    'augmentation.groups',
    f'name one or several of {", ".join(GROUPS)}, each once',
  )
  require(
    -1 < augmentation.target < 1,
    config,
    'augmentation.target',
    'must be between -1 and 1, the mean sign of a discriminator',
  )
  require_at_least(config, 1, 'augmentation.speed_images')
  require(
    LOSSES[config.loss.name].boundary is not None,
    config,
    'augmentation.name',
    "follows the sign of the discriminator's output, which has no meaning "
    f"under loss.name={config.loss.name}; use 'diffaugment' or another loss",
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
    'must be above 0, or None for no limit',
  )
  require_at_least(config, 1, 'penalty.every_steps')
  require(
    0 <= penalty.final_share <= 1,
    config,
    'penalty.final_share',
    'must be from 0 to 1',
  )
  has_norms = MODELS[config.model.name].has_norms
  mixes = has_norms and config.model.discriminator_norm == 'batch'
  require(
    not mixes or not any(penalty[name] for name in weights),
    config,
    'model.discriminator_norm',
    'batch norm mixes the examples of a batch, but a penalty needs the '
    "gradient of each one; use 'layer', 'group' or 'none'",
  )
  is_bounded = (
    penalty.gradient or penalty.max_weight or config.model.spectral_norm
  )
  require(
    is_bounded or not LOSSES[config.loss.name].needs_bound,
    config,
    'loss.name',
    'needs a discriminator with a bounded slope: set penalty.gradient=10.0, '
    'penalty.max_weight=0.01 or model.spectral_norm=True',
  )


def check_groups(config: ConfigDict, num_devices: int) -> None:
  """Checks that batches split into packs and groups on each device.

  Args:
    config: the run's config.
    num_devices: number of devices that share a batch.

  Raises:
    UserError: if they do not; names the required divisor of `batch_size`.
  """
  group_size = GROUP_SIZE if config.model.minibatch_deviation else 1
  divisor = config.model.packing * group_size * num_devices
  require(
    config.batch_size % divisor == 0,
    config,
    'batch_size',
    f'must be divisible by {divisor}: {config.model.packing} (model.packing) '
    f'x {group_size} (model.minibatch_deviation) x {num_devices} (devices)',
  )
