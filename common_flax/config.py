"""Configurations: shared fields, checks and recipes.

A configuration is a locked ml_collections ConfigDict that has every field. A
family's `default()` lists the fields, and recipes start from it. The default of
a new field is the earlier behaviour, so older workdirs keep their meaning.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
import difflib
import math
import runpy
from typing import Any

from etils import epath
import jax
from ml_collections import config_dict
from ml_collections import ConfigDict

from common_flax import files
from common_flax import images
from common_flax import recipes
from common_flax.errors import UserError

MAX_COUNT = 2**31 - 1  # steps and sizes are int32
MAX_FEATURES = 2**16  # features of a layer, size of the latents
MAX_SAMPLES = 10**6  # drawn for evaluation, held in memory
MAX_STEPS_PER_CALL = 2**12  # a CPU compiles each of them

PARALLELISMS = ('jit', 'pmap')
COMPUTE_DTYPES = ('float32', 'bfloat16', 'float64')
ON_NAN = ('stop', 'skip', 'rollback', 'warn')
ON_SAVE_ERROR = ('stop', 'warn')
TENSORBOARD = 'tensorboard'
TRACKERS = (TENSORBOARD, 'mlflow', 'wandb')  # see `workdir.trackers`
CROPS = ('center', 'fit', 'random')

# The type of fields that hold a size of images, see `common_flax.images.Size`.
SIZE_TYPE = int | tuple


def base() -> ConfigDict:
  """The fields that every family shares, with their defaults."""
  config = ConfigDict()
  config.seed = 0
  config.num_steps = 10_000
  config.batch_size = 64  # sum over all devices
  config.steps_per_call = 1  # per compiled call; more may help on a GPU or TPU
  config.parallelism = 'jit'  # or 'pmap'
  config.compute_dtype = 'float32'  # or 'bfloat16'; 'float64' for debugging
  config.ema_decay = 0.999  # of the moving average of weights; 0.0 for none
  config.log_every_steps = 100
  config.sample_every_steps = 500
  config.checkpoint_every_steps = 1000
  config.keep_checkpoints = 3
  # If a loss or gradient is not finite: 'stop', 'skip' the step, 'rollback' to
  # a checkpoint and draw anew, or 'warn' and continue.
  config.on_nan = 'stop'
  config.on_nan_max_skips = 100  # maximum skips per start before stopping
  config.on_nan_max_rollbacks = 3  # maximum rollbacks before stopping
  config.trackers = (TENSORBOARD,)  # also 'mlflow', 'wandb'; () for none
  config.on_save_error = 'stop'  # or 'warn' and continue without saving
  # 0 for never. The best checkpoint by the first metric is kept.
  config.evaluate_every_steps = 0
  config.evaluation_metrics = ('fid',)  # see `common_flax.evaluation.protocol`
  config.evaluation_num_samples = 2048
  config.evaluation_features = 'auto'  # or 'inception', 'classifier', 'random'
  config.evaluation_inception_weights = config_dict.placeholder(str)  # a file
  config.evaluation_resize = 'clean'  # for inception; or 'legacy'

  config.dataset = dataset = ConfigDict()
  dataset.name = 'digits'  # or 'folder', 'stacked', a world, a TFDS data set
  dataset.split = 'train'
  dataset.data_dir = config_dict.placeholder(str)  # None: TFDS_DATA_DIR
  dataset.path = config_dict.placeholder(str)  # folder or file of 'folder'
  # A file of labels, or the name of an array or column, of 'folder'.
  dataset.labels = config_dict.placeholder(str)
  dataset.stack_of = 'digits'  # grey images behind 'stacked'
  # The side of square images in pixels, or (height, width).
  dataset.image_size = config_dict.FieldReference(32, field_type=SIZE_TYPE)
  # What is shown of an image of another shape: its 'center'; the whole image,
  # which is to 'fit' on the background; or a 'random' part, in training.
  dataset.crop = 'center'
  dataset.flip = False  # mirror a random half of the images
  dataset.skip_corrupt = False  # skip images that cannot be decoded
  # Behind transparent pixels and around images that 'fit'; or 'none'.
  dataset.background = 'white'
  # White in files of deeper types; None for the largest value of each type.
  dataset.white_level = config_dict.placeholder(float)
  return config


def load(spec: str) -> ConfigDict:
  """Runs a recipe and returns its config, locked.

  A recipe is Python code; run only recipes that you trust.

  Args:
    spec: the name of a recipe that is shipped, such as `quick`, or a file,
      `FILE.py`; either may be followed by `:VARIANT`.

  Raises:
    UserError: if there is no such recipe or variant, or the recipe fails.
  """
  path, variant = recipes.find(spec)
  try:
    recipe = runpy.run_path(path)
    config = recipe['get_config'](*filter(None, [variant]))
  except KeyError as error:
    if error.args != ('get_config',):
      raise UserError(f'--config={spec}: cannot be run: {error!r}') from error
    raise UserError(f'--config={spec}: defines no get_config()') from error
  except Exception as error:  # any fault of the user's code
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise UserError(f'--config={spec}: {reason}') from error
  if not isinstance(config, ConfigDict):
    raise UserError(f'--config={spec}: get_config() returned no ConfigDict')
  return config.lock()


def of_variant(
  default: ConfigDict,
  variants: Mapping[str, Callable[[ConfigDict], None]],
  name: str,
) -> ConfigDict:
  """The configuration of a recipe's variant.

  Args:
    default: the family's default configuration; modified and returned.
    variants: functions by name that modify it; '' is the recipe itself.
    name: name of the variant.

  Raises:
    ValueError: if there is no such variant.
  """
  if name not in variants:
    known = ', '.join(filter(None, variants))
    raise ValueError(f'no variant {name!r}; choose one of {known}')
  config = default.unlock()
  variants[name](config)
  return config.lock()


def flatten(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
  """{'dataset.name': 'digits', ...}, sorted by name."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ConfigDict | Mapping):
      flat |= {f'{name}.{k}': v for k, v in flatten(value).items()}
    else:
      flat[name] = value
  return dict(sorted(flat.items()))


def unknown_field(name: str, known: Collection[str]) -> UserError:
  """The error for a field that does not exist; suggests a similar name."""
  matches = difflib.get_close_matches(name, known, n=1)
  hint = f'; did you mean {matches[0]}?' if matches else ''
  return UserError(f'config.{name}: no such field{hint}')


def check_fields(config: ConfigDict, default: ConfigDict) -> None:
  """Checks that a config has the fields and types of the default.

  Raises:
    UserError: naming the first unknown, missing or mistyped field.
  """
  flat, known = flatten(config), flatten(default)
  for name in flat:
    if name not in known:
      raise unknown_field(name, known)
  for name in known:
    if name not in flat:
      raise UserError(f'config.{name}: missing; start from default()')
    kind = default
    for part in name.split('.')[:-1]:
      kind = kind[part]
    kind = kind.get_type(name.rsplit('.', 1)[-1])
    value = flat[name]
    if kind == SIZE_TYPE and (value is not None or known[name] is not None):
      fault = images.size_fault(value)
      require(fault is None, config, name, fault)
      continue
    if value is None:
      if known[name] is not None:
        raise UserError(f'config.{name}: None is no {kind.__name__}')
    elif type(value) is not kind:
      raise UserError(
        f'config.{name}={value!r}: is a {type(value).__name__}, not '
        f'{kind.__name__}'
      )


def require_reachable(name: str, path: epath.PathLike) -> None:
  """Requires that a path in an object store is accessible."""
  try:
    epath.Path(path).exists()
  except Exception as error:  # each store raises its own types
    if not files.is_remote(path):
      raise
    raise UserError(f'{name}={files.unreachable(path, error)}') from error


def require(condition: bool, config: ConfigDict, name: str, cure: str) -> None:
  """Raises the UserError `config.NAME=VALUE: CURE` unless `condition`."""
  if not condition:
    value = flatten(config)[name]
    raise UserError(f'config.{name}={value!r}: {cure}')


def require_one_of(
  config: ConfigDict, name: str, known: Collection[str]
) -> None:
  """Requires that the field `name` holds one of the `known` names."""
  listed = ', '.join(sorted(known))
  require(
    flatten(config)[name] in known, config, name, f'choose one of {listed}'
  )


def require_at_least(
  config: ConfigDict, minimum: int | float, *names: str
) -> None:
  """Requires that each of the fields `names` is at least `minimum`."""
  for name in names:
    value = flatten(config)[name]
    require(value >= minimum, config, name, f'must be at least {minimum}')


def require_at_most(config: ConfigDict, maximum: int, *names: str) -> None:
  """Requires that each of the fields `names` is at most `maximum`."""
  for name in names:
    value = flatten(config)[name]
    require(value <= maximum, config, name, f'must be at most {maximum:,}')


def check_base(config: ConfigDict) -> None:
  """Checks the values of the fields of `base`.

  Raises:
    UserError: naming the first field whose value is out of range.
  """
  _check_representable(config)
  _check_steps(config)
  require_at_most(config, MAX_STEPS_PER_CALL, 'steps_per_call')
  require_at_most(config, MAX_SAMPLES, 'evaluation_num_samples')
  require(
    0 <= config.seed < 2**32, config, 'seed', 'must be from 0 to 2^32 - 1'
  )
  require(
    0 <= config.ema_decay < 1,
    config,
    'ema_decay',
    'must be at least 0 and below 1',
  )
  _check_rendering(config)
  require_one_of(config, 'parallelism', PARALLELISMS)
  require_one_of(config, 'on_nan', ON_NAN)
  require_one_of(config, 'on_save_error', ON_SAVE_ERROR)
  require(
    all(name in TRACKERS for name in config.trackers)
    and len(set(config.trackers)) == len(config.trackers),
    config,
    'trackers',
    f'choose some of {", ".join(TRACKERS)}, each once',
  )
  require_at_least(config, 1, 'on_nan_max_skips', 'on_nan_max_rollbacks')
  require_one_of(config, 'compute_dtype', COMPUTE_DTYPES)
  require(
    config.compute_dtype != 'float64' or jax.config.jax_enable_x64,
    config,
    'compute_dtype',
    'needs JAX_ENABLE_X64=1 in the environment',
  )


def _check_rendering(config: ConfigDict) -> None:
  """Checks the crop of images, their background and their white level."""
  require_one_of(config, 'dataset.crop', CROPS)
  require(
    config.dataset.crop != 'random' or config.dataset.name != 'stacked',
    config,
    'dataset.crop',
    "stacks are drawn once, before training; use 'center' or 'fit'",
  )
  colour, level = config.dataset.background, config.dataset.white_level
  require(
    colour == 'none' or images.opaque_colour(colour) is not None,
    config,
    'dataset.background',
    "use a colour such as white or '#ff8000', or none",
  )
  require(
    config.dataset.crop != 'fit' or colour != 'none',
    config,
    'dataset.background',
    'dataset.crop=fit needs a colour around the images, such as black',
  )
  require(
    level is None or 0 < level < math.inf,
    config,
    'dataset.white_level',
    'must be above 0',
  )


def _check_representable(config: ConfigDict) -> None:
  """Refuses values that arrays or file systems cannot hold."""
  for name, value in flatten(config).items():
    if type(value) is int and not name.endswith('seed'):
      require_at_most(config, MAX_COUNT, name)
    if isinstance(value, str):
      require('\0' not in value, config, name, 'contains a null character')


def _check_steps(config: ConfigDict) -> None:
  """Checks the number of steps and the intervals."""
  periods = [name for name in config if name.endswith('_every_steps')]
  require_at_least(
    config,
    1,
    'num_steps',
    'batch_size',
    'steps_per_call',
    'keep_checkpoints',
    *(name for name in periods if name != 'evaluate_every_steps'),
  )
  require_at_least(config, 0, 'evaluate_every_steps')
  require_at_least(config, 1, 'evaluation_num_samples')
  require(
    bool(config.evaluation_metrics), config, 'evaluation_metrics', 'is empty'
  )
  for name in ('log_every_steps', 'checkpoint_every_steps'):
    _require_multiple(config, 'evaluate_every_steps', name)
  for name in ('num_steps', *periods):
    _require_multiple(config, name, 'steps_per_call')


def _require_multiple(config: ConfigDict, name: str, divisor: str) -> None:
  require(
    config[name] % config[divisor] == 0,
    config,
    name,
    f'must be a multiple of {divisor}={config[divisor]}',
  )
