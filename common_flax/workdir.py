"""The folder of a run: may it hold this one, its config.json, what it saved."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
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
from common_flax import files
from common_flax import images as images_lib
from common_flax.checkpoints import abstract_like
from common_flax.checkpoints import Checkpoints
from common_flax.config import UserError

CHECKPOINTS = 'checkpoints'
CONFIG = 'config.json'
EVALUATION = 'evaluation.json'
METRICS = 'metrics.jsonl'


def read_config(
  workdir: epath.PathLike,
  default: ConfigDict,
  check: Callable[[ConfigDict], None] = lambda config: None,
) -> ConfigDict:
  """The config of the run that a workdir holds.

  Args:
    workdir: the folder.
    default: the fields of the family.
    check: raises a UserError of values that are wrong.

  Raises:
    UserError: if it holds none, or one that is wrong or cannot be read.
  """
  path = epath.Path(workdir) / CONFIG
  config = config_lib.read(path, default)
  try:
    check(config)
  except UserError as error:
    raise UserError(f'{path}: {error}') from error
  return config


def open_checkpoints(workdir: epath.PathLike) -> Checkpoints:
  """The checkpoints of a workdir, to read."""
  return Checkpoints(epath.Path(workdir) / CHECKPOINTS)


def check_trained(workdir: epath.PathLike) -> None:
  """Refuses a workdir without a checkpoint.

  Raises:
    UserError: saying that it has to be trained first.
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
  """One item of a checkpoint of a workdir.

  Args:
    workdir: folder of a run.
    item: name of the item.
    config: of the run.
    create: makes the static part, of a config and of its data the shape of an
      example and the number of classes.
    init_item: what the item was before the first step; only its shapes and
      types are used.
    step: of the checkpoint; None for the newest that can be read.

  Returns:
    The checkpoint's step, the static part, and the item on the first device.

  Raises:
    UserError: if there is no such checkpoint.
  """
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with open_checkpoints(workdir) as checkpoints:

    def read(step: int) -> tuple[Any, Any]:
      info = checkpoints.info(step)
      shape = tuple(info['image_shape'])
      model = create(config, shape, info.get('num_classes'))
      abstract = abstract_like(functools.partial(init_item, model), device)
      return model, checkpoints.restore(step, item, abstract)

    step, (model, value) = checkpoints.newest(read, step)
  return step, model, value


def check_finite(workdir: epath.PathLike, step: int, params: Any) -> None:
  """Refuses parameters of which samples would be nothing but NaN.

  Raises:
    UserError: saying that the run has diverged.
  """
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
    raise UserError(
      f'--workdir={workdir}: the weights of step {step:,} are not finite; the '
      'run has diverged. Take an earlier one with --step'
    )


def check(
  workdir: epath.PathLike,
  config: ConfigDict,
  default: ConfigDict,
  fixed_steps: bool,
) -> bool:
  """Refuses a workdir that cannot hold this run; writes nothing.

  Args:
    workdir: the folder, which need not exist.
    config: of this run.
    default: the fields of the family.
    fixed_steps: whether a schedule depends on `num_steps`.

  Returns:
    Whether there is a checkpoint to go on from.

  Raises:
    UserError: if it holds a run of another config, or cannot be written to.
  """
  workdir = epath.Path(workdir)
  config_lib.require_reachable('--workdir', workdir)
  is_local = not files.is_remote(workdir)
  nearest = workdir
  while is_local and not nearest.exists() and nearest != nearest.parent:
    nearest = nearest.parent
  for folder in (nearest, workdir / CHECKPOINTS, workdir / 'samples'):
    if folder.exists() and not folder.is_dir():
      raise UserError(f'--workdir={workdir}: {folder} is a file')
    if folder.exists() and is_local and not os.access(folder, os.W_OK):
      raise UserError(f'--workdir={workdir}: {folder} cannot be written to')
  for file in (workdir / CONFIG, workdir / METRICS):
    if file.exists() and not files.is_regular(file):
      raise UserError(f'--workdir={workdir}: {file} is no file')
  with open_checkpoints(workdir) as checkpoints:
    has_checkpoints = bool(checkpoints.steps())
  if (workdir / CONFIG).exists():
    old = read_config(workdir, default)
    config_lib.check_same_run(old, config, workdir, fixed_steps)
  elif has_checkpoints:
    raise UserError(
      f'--workdir={workdir}: has checkpoints but no {CONFIG} that says of '
      'which run; take another'
    )
  return has_checkpoints


@contextlib.contextmanager
def writing(name: str) -> Iterator[None]:
  """Raises a UserError, beginning with `name`, if a file cannot be written."""
  try:
    yield
  except Exception as error:
    # Making a folder calls itself for its parents.
    if not (files.is_file_error(error) or isinstance(error, RecursionError)):
      raise
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'{name}: cannot be written to: {reason}') from error


def create(workdir: epath.PathLike) -> None:
  """Makes a workdir.

  Raises:
    UserError: if it cannot be written to.
  """
  with writing(f'--workdir={workdir}'):
    files.make_folder(workdir)


def write_config(workdir: epath.PathLike, config: ConfigDict) -> None:
  """Writes down the config, where it is not there yet.

  Raises:
    UserError: if it cannot be written.
  """
  path = epath.Path(workdir) / CONFIG
  text = config_lib.to_json(config)
  with writing(f'--workdir={workdir}'):
    if not path.exists() or path.read_text() != text:
      images_lib.write_bytes(path, text.encode())


def write_evaluation(
  workdir: epath.PathLike,
  metrics: Mapping[str, Any],
  provenance: Mapping[str, Any],
) -> epath.Path:
  """Writes metrics and how they were made.

  Args:
    workdir: the folder.
    metrics: numbers, or lists and dicts of them, by name.
    provenance: whatever tells one measurement from another.

  Returns:
    The path of the file.

  Raises:
    UserError: if it cannot be written to.
  """
  path = epath.Path(workdir) / EVALUATION
  result = _finite({**metrics, 'provenance': dict(provenance)})
  with writing(str(path)):
    images_lib.write_bytes(path, (json.dumps(result, indent=2) + '\n').encode())
  return path


def _finite(value: Any) -> Any:
  """The value as JSON can say it: null for what is not finite."""
  if isinstance(value, dict):
    return {k: _finite(v) for k, v in value.items()}
  if isinstance(value, list):
    return [_finite(v) for v in value]
  is_finite = not isinstance(value, float) or math.isfinite(value)
  return value if is_finite else None
