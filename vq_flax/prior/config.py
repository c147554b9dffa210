"""The configuration of a prior over codes."""

from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import optimisers
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.effects import ALWAYS
from common_flax.effects import Effects
from common_flax.effects import needs
from common_flax.likelihoods.fields import BINARISATIONS
from common_flax.workdir import layout as workdir_lib

CONDITIONINGS = ('none', 'label')
PLACES = ('data_dir', 'path')  # fields of `dataset` that say where data is
OF_MODEL = 'a prior takes the data set of its model; remove it'
_MAX_LAYERS = 1000


def default() -> ConfigDict:
  """Returns every field with its default, locked.

  The fields of `dataset` are replaced by those of the model's run.
  """
  config = config_lib.base()
  config.dataset.binarise = 'stochastic'
  config.dataset.binarise_seed = 0

  config.prior = prior = ConfigDict()
  prior.width = 128
  prior.num_layers = 4
  prior.num_heads = 4
  prior.conditioning = 'none'  # or 'label'
  config.optimizer = optimisers.default(learning_rate=1e-3, b1=0.9, b2=0.99)
  return config.lock()


# When the fields have an effect that are not shared with other families.
EFFECTS: Effects = {
  'dataset.binarise': ALWAYS,
  'dataset.binarise_seed': (needs('dataset.binarise', 'fixed'),),
  'prior.width': ALWAYS,
  'prior.num_layers': ALWAYS,
  'prior.num_heads': ALWAYS,
  'prior.conditioning': ALWAYS,
  **optimisers.effects('optimizer'),
}


def with_dataset(config: ConfigDict, of_model: ConfigDict) -> ConfigDict:
  """The config with the data set of the model's run.

  Args:
    config: of the prior. Where the data is may be set, as when a run resumes;
      other fields of `dataset` have their defaults, or the model's values.
    of_model: the config of the model.

  Raises:
    UserError: naming a field of `dataset` that has another value.
  """
  untouched = config_lib.flatten(default().dataset)
  found = config.copy_and_resolve_references().unlock()
  for name, value in config_lib.flatten(config.dataset).items():
    if name in PLACES and value is not None:
      continue
    require(
      value in (untouched.get(name), of_model.dataset.get(name)),
      config,
      f'dataset.{name}',
      OF_MODEL,
    )
    found.dataset[name] = of_model.dataset[name]
  return found.lock()


def check(config: ConfigDict) -> None:
  """Checks every field, but not whether it has an effect, see EFFECTS.

  Raises:
    UserError: if a field is invalid; names the first one.
  """
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  require_one_of(config, 'dataset.binarise', BINARISATIONS)
  require_at_least(
    config, 1, 'prior.width', 'prior.num_layers', 'prior.num_heads'
  )
  require_at_most(config, config_lib.MAX_FEATURES, 'prior.width')
  require_at_most(config, _MAX_LAYERS, 'prior.num_layers')
  require(
    config.prior.width % config.prior.num_heads == 0,
    config,
    'prior.num_heads',
    f'must divide prior.width={config.prior.width}',
  )
  require_one_of(config, 'prior.conditioning', CONDITIONINGS)
  optimisers.check(config, 'optimizer')


def has_fixed_steps(config: ConfigDict) -> bool:
  """Whether a schedule depends on `num_steps`, which then must not change."""
  return optimisers.is_scheduled(config.optimizer)


def read(workdir: epath.PathLike) -> ConfigDict:
  """Reads and checks the config of the prior in a folder.

  Raises:
    UserError: if the config is missing, unreadable or invalid.
  """
  return workdir_lib.read_config(workdir, default(), check)
