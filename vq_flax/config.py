"""The configuration of a model with discrete latents."""

from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import images
from common_flax import optimisers
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.data.worlds import WORLDS
from common_flax.effects import ALWAYS
from common_flax.effects import Condition
from common_flax.effects import Effects
from common_flax.effects import needs
from common_flax.likelihoods import fields
from common_flax.nn.activations import ACTIVATIONS
from common_flax.workdir import layout as workdir_lib
from vq_flax.models.autoencoder import grid_of
from vq_flax.quantisers import GRADIENTS

MODELS = ('vq', 'fsq')
LEARNINGS = ('average', 'gradient')
STARTS = ('k_means', 'random')
MAX_CODES = 2**16  # distances to all of them are held in memory
MAX_CODEBOOKS = 64
_MAX_HALVINGS = 8
_MAX_BLOCKS = 64


def default() -> ConfigDict:
  """Returns every field with its default, locked: a VQ-VAE of the digits."""
  config = config_lib.base()
  fields.add(config)

  config.model = model = ConfigDict()
  model.name = 'vq'  # or 'fsq'
  model.base_features = 64  # of the cells inside the networks
  model.num_halvings = 2  # a cell has 2**num_halvings pixels a side
  model.num_blocks = 2  # residual blocks of each network
  model.activation = 'relu'
  # For 'vq'.
  model.num_codes = 512  # entries of a codebook
  model.code_size = 32  # features of an entry
  model.num_codebooks = 1  # each quantises what the earlier ones leave
  model.gradient = 'straight_through'  # or 'rotation'
  # For 'fsq': levels of each feature of a cell.
  model.levels = (8, 8, 8)

  # For 'vq': the entries, moving 'average's or trained by their 'gradient'.
  config.codebook = codebook = ConfigDict()
  codebook.learning = 'average'
  codebook.decay = 0.99  # of the moving averages
  codebook.start = 'k_means'  # clusters of the first batch, or 'random'
  # Entries that fewer cells of a batch choose start anew; 0.0 for never.
  codebook.restart_below = 1.0

  config.commitment = 0.25  # for 'vq': weight of the distance to the entries
  config.optimizer = optimisers.default(learning_rate=1e-3, b1=0.9, b2=0.999)
  return config.lock()


_VQ = needs('model.name', 'vq')
_AVERAGES = Condition(
  ('codebook.learning', 'codebook.restart_below'),
  lambda config: (
    config.codebook.learning == 'average' or config.codebook.restart_below > 0
  ),
  'add --config.codebook.learning=average',
)

# When the fields have an effect that are not shared with other families.
EFFECTS: Effects = {
  **fields.EFFECTS,
  'model.name': ALWAYS,
  'model.base_features': ALWAYS,
  'model.num_halvings': ALWAYS,
  'model.num_blocks': ALWAYS,
  'model.activation': ALWAYS,
  'model.num_codes': (_VQ,),
  'model.code_size': (_VQ,),
  'model.num_codebooks': (_VQ,),
  'model.gradient': (_VQ,),
  'model.levels': (needs('model.name', 'fsq'),),
  'codebook.learning': (_VQ,),
  'codebook.decay': (_VQ, _AVERAGES),
  'codebook.start': (_VQ,),
  'codebook.restart_below': (_VQ,),
  'commitment': (_VQ,),
  **optimisers.effects('optimizer'),
}


def _check_model(config: ConfigDict) -> None:
  """Checks that the networks and the quantiser can be built."""
  require_one_of(config, 'model.name', MODELS)
  require_at_least(config, 1, 'model.base_features', 'model.code_size')
  require_at_most(
    config, config_lib.MAX_FEATURES, 'model.base_features', 'model.code_size'
  )
  require_at_least(config, 1, 'model.num_halvings')
  require_at_most(config, _MAX_HALVINGS, 'model.num_halvings')
  side = min(images.sides(config.dataset.image_size))
  require(
    2**config.model.num_halvings <= side,
    config,
    'model.num_halvings',
    f'makes cells larger than the images, whose shorter side has {side} pixels',
  )
  require_at_least(config, 0, 'model.num_blocks')
  require_at_most(config, _MAX_BLOCKS, 'model.num_blocks')
  require_one_of(config, 'model.activation', ACTIVATIONS)
  require_at_least(config, 2, 'model.num_codes')
  require_at_most(config, MAX_CODES, 'model.num_codes')
  require_at_least(config, 1, 'model.num_codebooks')
  require_at_most(config, MAX_CODEBOOKS, 'model.num_codebooks')
  require_one_of(config, 'model.gradient', GRADIENTS)
  levels = config.model.levels
  require(
    levels
    and all(type(each) is int and each >= 2 for each in levels)
    and _product(levels) <= MAX_CODES,
    config,
    'model.levels',
    'must be numbers of levels, at least 2 each, whose product is at most '
    f'{MAX_CODES:,}, such as (8, 8, 8)',
  )


def _product(levels: tuple[int, ...]) -> int:
  product = 1
  for each in levels:
    product *= each
    if product > MAX_CODES:  # before the number grows without bound
      break
  return product


def check(config: ConfigDict) -> None:
  """Checks every field, but not whether it has an effect, see EFFECTS.

  Raises:
    UserError: if a field is invalid; names the first one.
  """
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  require(
    config.dataset.name not in WORLDS,
    config,
    'dataset.name',
    'contains points; use a data set of images, such as digits',
  )
  _check_model(config)
  require_one_of(config, 'codebook.learning', LEARNINGS)
  require_one_of(config, 'codebook.start', STARTS)
  require(
    0 <= config.codebook.decay < 1,
    config,
    'codebook.decay',
    'must be at least 0 and below 1',
  )
  for name in ('codebook.restart_below', 'commitment'):
    require(
      0 <= config_lib.flatten(config)[name] <= 1e6,
      config,
      name,
      'must be from 0 to 1,000,000',
    )
  _check_restarts(config)
  fields.check(config)
  optimisers.check(config, 'optimizer')


def _check_restarts(config: ConfigDict) -> None:
  """Checks that a batch has enough cells for all entries to stay alive."""
  height, width = grid_of(config.dataset.image_size, config.model.num_halvings)
  cells = config.batch_size * height * width
  needed = config.codebook.restart_below * config.model.num_codes
  require(
    config.model.name != 'vq' or needed <= cells,
    config,
    'codebook.restart_below',
    f'a batch of {cells:,} cells cannot choose each of model.num_codes='
    f'{config.model.num_codes:,} entries as often, and they would start anew '
    'for ever; use a lower value, fewer codes or a larger batch_size',
  )


def has_fixed_steps(config: ConfigDict) -> bool:
  """Whether a schedule depends on `num_steps`, which then must not change."""
  return optimisers.is_scheduled(config.optimizer)


def read(workdir: epath.PathLike) -> ConfigDict:
  """Reads and checks the config of the run in a workdir.

  Raises:
    UserError: if the config is missing, unreadable or invalid.
  """
  return workdir_lib.read_config(workdir, default(), check)
