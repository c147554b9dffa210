"""The folder of a run: its config.json, checkpoints and evaluation.json."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import json
import math
import os
from typing import Any

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import config as config_lib
from common_flax import effects as effects_lib
from common_flax import files
from common_flax.data import fields as dataset_fields
from common_flax.errors import UserError
from common_flax.workdir import stored_config
from common_flax.workdir.checkpoints import abstract_like
from common_flax.workdir.stored_config import check_same_run
from common_flax.workdir.stored_config import check_unchanged
from common_flax.workdir.stored_config import CHECKPOINTS
from common_flax.workdir.stored_config import CONFIG
from common_flax.workdir.stored_config import has_config
from common_flax.workdir.stored_config import open_checkpoints
from common_flax.workdir.stored_config import read_config

EVALUATION = 'evaluation.json'
LEFT_OUT = 'left_out.txt'
METRICS = 'metrics.jsonl'
TIME_LIMIT = 'time_limit.json'
_FOLDERS = (CHECKPOINTS, 'samples', 'tensorboard')


def check_trained(workdir: epath.PathLike) -> None:
  """Checks that a workdir has a checkpoint.

  Raises:
    UserError: if there is none.
  """
  with open_checkpoints(workdir) as checkpoints:
    if not checkpoints.steps():
      raise UserError(f'{workdir}: holds no checkpoint; train first')


def restore(
  workdir: epath.PathLike,
  item: str,
  config: ConfigDict,
  create: Callable[[ConfigDict, tuple[int, ...], int | None], Any],
  init_item: Callable[[Any], Any],
  step: int | None = None,
) -> tuple[int, Any, Any]:
  """Restores one item of a checkpoint.

  Args:
    workdir: the run's folder.
    item: name of the item.
    config: config of the run.
    create: function of (config, shape of an example, number of classes) that
      returns the static part.
    init_item: function of the static part that returns the item's initial
      value; only its shapes and dtypes are used.
    step: step of the checkpoint; None for the newest that can be read.

  Returns:
    The checkpoint's step, the static part, and the item on the first device.

  Raises:
    UserError: if there is no such checkpoint.
  """
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with open_checkpoints(workdir) as checkpoints:
    check_unchanged(workdir, config, checkpoints.newest_config())

    def read(step: int) -> tuple[Any, Any]:
      info = checkpoints.info(step)
      shape = tuple(info['image_shape'])
      model = create(config, shape, info.get('num_classes'))
      abstract = abstract_like(functools.partial(init_item, model), device)
      return model, checkpoints.restore(step, item, abstract)

    step, (model, value) = checkpoints.newest(read, step)
  return step, model, value


def check_finite(workdir: epath.PathLike, step: int, params: Any) -> None:
  """Refuses parameters that are not finite.

  Raises:
    UserError: naming the step.
  """
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
    raise UserError(
      f'--workdir={workdir}: the weights of step {step:,} are not finite; the '
      'run has diverged. Take an earlier step with --step'
    )


def all_effects(effects: effects_lib.Effects) -> effects_lib.Effects:
  """When a family's own fields and those of all families have an effect."""
  return {**effects_lib.SHARED, **dataset_fields.EFFECTS, **effects}


def check(
  workdir: epath.PathLike,
  config: ConfigDict,
  default: ConfigDict,
  fixed_steps: bool,
  effects: effects_lib.Effects | None = None,
) -> bool:
  """Checks that a workdir can hold this run, without writing to it.

  Args:
    workdir: the run's folder, which need not exist.
    config: config of the run.
    default: the family's default config.
    fixed_steps: whether a schedule depends on `num_steps`.
    effects: when the family's own fields have an effect.

  Returns:
    Whether there is a checkpoint to resume from.

  Raises:
    UserError: if the workdir holds a run of another config, or is not writable;
      or if a field was set that has no effect.
  """
  workdir = epath.Path(workdir)
  config_lib.require_reachable('--workdir', workdir)
  is_local = not files.is_remote(workdir)
  nearest = workdir
  while is_local and not nearest.exists() and nearest != nearest.parent:
    nearest = nearest.parent
  for folder in (nearest, *(workdir / name for name in _FOLDERS)):
    if folder.exists() and not folder.is_dir():
      raise UserError(f'--workdir={workdir}: {folder} is a file')
    if folder.exists() and is_local and not os.access(folder, os.W_OK):
      raise UserError(f'--workdir={workdir}: {folder} cannot be written to')
  for file in (workdir / CONFIG, workdir / METRICS):
    if file.exists() and not files.is_regular(file):
      raise UserError(f'--workdir={workdir}: {file} is not a regular file')
  with open_checkpoints(workdir) as checkpoints:
    has_checkpoints = bool(checkpoints.steps())
  old = None
  if has_config(workdir):
    old = read_config(workdir, default)
    check_same_run(old, config, workdir, fixed_steps)
  elif has_checkpoints:
    raise UserError(
      f'--workdir={workdir}: has checkpoints but no {CONFIG} to identify '
      'their run, nor do they keep a copy; start the same command with a new '
      f'--workdir, and copy the {CONFIG} that it writes'
    )
  effects_lib.check(config, all_effects(effects or {}), default, old)
  return has_checkpoints


@contextlib.contextmanager
def writing(name: str) -> Iterator[None]:
  """Turns failures to write a file into a UserError that names `name`."""
  try:
    yield
  except Exception as error:
    # pathlib recurses into the parents of a folder to make.
    if not (files.is_file_error(error) or isinstance(error, RecursionError)):
      raise
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'{name}: cannot be written to: {reason}') from error


def create(workdir: epath.PathLike) -> None:
  """Creates a workdir.

  Raises:
    UserError: if it cannot be created.
  """
  with writing(f'--workdir={workdir}'):
    files.make_folder(workdir)


def write_config(workdir: epath.PathLike, config: ConfigDict) -> None:
  """Writes config.json if it is missing or has other content.

  Raises:
    UserError: if it cannot be written.
  """
  path = epath.Path(workdir) / CONFIG
  text = stored_config.to_json(config)
  with writing(f'--workdir={workdir}'):
    if not path.exists() or path.read_text() != text:
      files.write_bytes(path, text.encode())


def write_left_out(workdir: epath.PathLike, text: str) -> None:
  """Writes the names of the files that the data lacks, if there are any.

  Raises:
    UserError: if the file cannot be written.
  """
  path = epath.Path(workdir) / LEFT_OUT
  with writing(f'--workdir={workdir}'):
    if text:
      files.write_bytes(path, text.encode())
    else:
      path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class TimeLimit:
  """What time_limit.json holds: a number of steps chosen for a time."""

  max_minutes: float
  num_steps: int
  instead_of: int  # the `num_steps` that it replaced


def write_time_limit(workdir: epath.PathLike, limit: TimeLimit) -> None:
  """Writes time_limit.json; creates the workdir.

  Raises:
    UserError: if it cannot be written.
  """
  create(workdir)
  text = json.dumps(dataclasses.asdict(limit), indent=2) + '\n'
  with writing(f'--workdir={workdir}'):
    files.write_bytes(epath.Path(workdir) / TIME_LIMIT, text.encode())


def read_time_limit(workdir: epath.PathLike) -> TimeLimit | None:
  """Reads time_limit.json; None if no run began under one.

  Raises:
    UserError: if it is damaged.
  """
  workdir = epath.Path(workdir)
  path = workdir / TIME_LIMIT
  has_run = (workdir / CONFIG).exists() or (workdir / CHECKPOINTS).exists()
  if not (path.exists() and has_run):
    return None
  try:
    limit = TimeLimit(**files.read_json(path))
    minutes = float(limit.max_minutes)
    return TimeLimit(minutes, int(limit.num_steps), int(limit.instead_of))
  except (OSError, ValueError, TypeError, OverflowError) as error:
    raise UserError(
      f'{path}: cannot be read: {error}; remove it, and give the number of '
      'steps as config.num_steps'
    ) from error


def write_evaluation(
  workdir: epath.PathLike,
  metrics: Mapping[str, Any],
  provenance: Mapping[str, Any],
) -> epath.Path:
  """Writes metrics and how they were measured to evaluation.json.

  Args:
    workdir: the run's folder.
    metrics: numbers by name, or lists and dicts of numbers.
    provenance: everything that distinguishes this measurement from others.

  Returns:
    The path of the file.

  Raises:
    UserError: if the file cannot be written.
  """
  path = epath.Path(workdir) / EVALUATION
  result = _finite({**metrics, 'provenance': dict(provenance)})
  with writing(str(path)):
    files.write_bytes(path, (json.dumps(result, indent=2) + '\n').encode())
  return path


def _finite(value: Any) -> Any:
  """Replaces numbers that are not finite by None, as JSON has no NaN."""
  if isinstance(value, dict):
    return {k: _finite(v) for k, v in value.items()}
  if isinstance(value, list):
    return [_finite(v) for v in value]
  is_finite = not isinstance(value, float) or math.isfinite(value)
  return value if is_finite else None
