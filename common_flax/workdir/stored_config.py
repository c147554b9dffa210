"""The config that a workdir keeps, in config.json and in its checkpoints."""

from collections.abc import Callable
from collections.abc import Mapping
import copy
import json
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import files
from common_flax import images
from common_flax.errors import UserError
from common_flax.workdir.checkpoints import CheckpointStore

CHECKPOINTS = 'checkpoints'
CONFIG = 'config.json'

# Fields that may differ when a run resumes; `num_steps` may too, unless a
# schedule depends on it.
_MAY_CHANGE = {
  'keep_checkpoints',
  'parallelism',
  'trackers',
  'dataset.data_dir',
  'dataset.path',
  'dataset.labels',  # checkpoints remember what it says
  # Checkpoints remember it where the data has transparent images.
  'dataset.background',
}
_SIZES = ('dataset.image_size', 'model.grid_size')
_MAY_CHANGE_SUFFIX = '_every_steps'
_MAY_CHANGE_PREFIXES = ('on_', 'evaluation_')


def to_json(config: ConfigDict) -> str:
  """The JSON text of a config."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True) + '\n'


def read_json(path: epath.PathLike, default: ConfigDict) -> ConfigDict:
  """Reads a file of `to_json`; missing fields take the default's values.

  Raises:
    UserError: if the file is missing or no JSON, or a field is unknown or
      mistyped.
  """
  path = epath.Path(path)
  if not path.exists():
    raise UserError(f'{path}: no such file; is {path.parent} a workdir?')
  try:
    stored = files.read_json(path)
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read: {error}') from error
  return from_stored(stored, default, str(path))


def from_stored(
  stored: Mapping[str, Any], default: ConfigDict, where: str
) -> ConfigDict:
  """The config of a JSON object; missing fields take the default's values.

  Args:
    stored: the object.
    default: the family's default config.
    where: names the object in errors.

  Raises:
    UserError: if a field is unknown or mistyped.
  """
  try:
    flat = config_lib.flatten(ConfigDict(stored))
  except (ValueError, TypeError, AttributeError) as error:
    raise UserError(f'{where}: cannot be read: {error}') from error
  config = copy.deepcopy(default).unlock()  # which keeps the fields' types
  known = config_lib.flatten(config)
  if 'dataset.background' in known and 'dataset.background' not in flat:
    config.dataset.background = 'none'  # as before there was the field
  try:
    for name, value in flat.items():
      if name not in known:
        raise config_lib.unknown_field(name, known)
      config.update_from_flattened_dict({name: _with_tuples(value)})
    config_lib.check_fields(config, default)
  except (TypeError, ValueError) as error:
    raise UserError(f'{where}: {error}') from error
  return config.lock()


def _with_tuples(value: Any) -> Any:
  """Turns lists, JSON's form of tuples, back into tuples."""
  is_list = isinstance(value, list)
  return tuple(map(_with_tuples, value)) if is_list else value


def open_checkpoints(workdir: epath.PathLike) -> CheckpointStore:
  """The checkpoints of a workdir, to read."""
  return CheckpointStore(epath.Path(workdir) / CHECKPOINTS)


def read_config(
  workdir: epath.PathLike,
  default: ConfigDict,
  check: Callable[[ConfigDict], None] = lambda config: None,
) -> ConfigDict:
  """Reads the config of the run in a workdir.

  If config.json is lost, the newest checkpoint's copy is taken.

  Args:
    workdir: the run's folder.
    default: the family's default config.
    check: raises a UserError if a value is wrong.

  Raises:
    UserError: if the config is missing, unreadable or wrong.
  """
  path = epath.Path(workdir) / CONFIG
  if not path.exists() and (saved := _saved_config(workdir)):
    step, stored = saved
    print(f'{path}: missing; the copy in checkpoint {step} is taken.')
    config = from_stored(stored, default, f'{path}: its copy')
    _check_named(config, check, path)
    return config
  try:
    config = read_json(path, default)
    _check_named(config, check, path)
  except UserError as error:
    if not path.exists() or not (saved := _saved_config(workdir)):
      raise
    cure = f'if it is damaged, remove it: checkpoint {saved[0]} has a copy'
    raise UserError(f'{error}; {cure}') from error
  return config


def has_config(workdir: epath.PathLike) -> bool:
  """Whether a workdir holds the config of a run, which `read_config` reads."""
  exists = (epath.Path(workdir) / CONFIG).exists()
  return exists or _saved_config(workdir) is not None


def _check_named(
  config: ConfigDict, check: Callable[[ConfigDict], None], path: epath.Path
) -> None:
  try:
    check(config)
  except UserError as error:
    raise UserError(f'{path}: {error}') from error


def _saved_config(workdir: epath.PathLike) -> tuple[int, dict] | None:
  """The newest checkpoint that keeps a config, and the config."""
  with open_checkpoints(workdir) as checkpoints:
    return checkpoints.newest_config()


def check_unchanged(
  workdir: epath.PathLike, config: ConfigDict, saved: tuple[int, dict] | None
) -> None:
  """Refuses a config.json that is not the config of the checkpoints.

  Args:
    workdir: the run's folder.
    config: what was read from its config.json.
    saved: step and config of a checkpoint; None in older runs.

  Raises:
    UserError: naming every field that differs but must not.
  """
  if saved is None:
    return
  step, stored = saved
  read = json.loads(to_json(config))
  different = _differences(
    config_lib.flatten(ConfigDict(stored)),
    config_lib.flatten(ConfigDict(read)),
    fixed_steps=False,
  )
  if different:
    path = epath.Path(workdir) / CONFIG
    raise UserError(
      f'{path}: not the config of checkpoint {step}: {", ".join(different)}; '
      'if it is damaged, remove it: the checkpoint has a copy'
    )


def check_same_run(
  old: ConfigDict, new: ConfigDict, workdir: epath.PathLike, fixed_steps: bool
) -> None:
  """Refuses to resume a run under a config that would change it.

  Args:
    old: the config that the run started with.
    new: the config that is to resume it.
    workdir: the run's folder, for errors.
    fixed_steps: whether a schedule depends on `num_steps`.

  Raises:
    UserError: naming every field that must not differ.
  """
  different = _differences(
    config_lib.flatten(old), config_lib.flatten(new), fixed_steps
  )
  if different:
    raise UserError(
      f'{workdir} holds a run of another config: {", ".join(different)}; use '
      'another --workdir or the old values'
    )


def _differences(
  old: Mapping[str, Any], new: Mapping[str, Any], fixed_steps: bool
) -> list[str]:
  """What differs between two flat configs of one run, but must not."""
  return [
    f'{name} (was {old[name]!r}, now {value!r})'
    for name, value in new.items()
    if name in old  # older checkpoints lack some names
    and _plain(name, old[name]) != _plain(name, value)
    and name not in _MAY_CHANGE
    and not name.endswith(_MAY_CHANGE_SUFFIX)
    and not name.startswith(_MAY_CHANGE_PREFIXES)
    and not (name == 'num_steps' and not fixed_steps)
  ]


def _plain(name: str, value: Any) -> Any:
  """A field's value as it is compared: a size 32 is the size (32, 32)."""
  if name in _SIZES and value is not None:
    return images.sides(value)
  return value
