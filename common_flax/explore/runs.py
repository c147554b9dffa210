"""The runs that the explorer shows, and the family that each belongs to."""

import dataclasses
import importlib
import os
import threading
import types
from typing import Any

from etils import epath

from common_flax import config as config_lib
from common_flax import files
from common_flax.errors import UserError
from common_flax.workdir import stored_config

# Families with a module `explorer`: its `reads` tells from the fields of a
# config whether the run is one of the family's, and `page` shows it.
_PACKAGES = ('gan_flax.explorer', 'vae_flax.explorer')

_ONE_AT_A_TIME = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Run:
  """A run, as the command line named it."""

  workdir: epath.Path
  name: str  # shown on the page

  def steps(self) -> list[int]:
    """The steps of its checkpoints, the newest first.

    Raises:
      UserError: if there is none.
    """
    with stored_config.open_checkpoints(self.workdir) as checkpoints:
      steps = sorted(checkpoints.steps(), reverse=True)
    if not steps:
      raise UserError(
        f'--workdir={self.workdir}: holds no checkpoint; train first'
      )
    return steps

  def load(self, step: int) -> Any:
    """The trained model of a checkpoint, which visitors share.

    Raises:
      UserError: if it cannot be read.
    """
    with _ONE_AT_A_TIME:  # who comes second finds it loaded
      return self.page().load(self.workdir, step)

  def page(self) -> types.ModuleType:
    """The module with the family's page.

    Raises:
      UserError: if the folder holds no run of a known family.
    """
    return importlib.import_module(f'{_package(self.workdir)}.page')


def _package(workdir: epath.Path) -> str:
  """The package that explores the run in a workdir."""
  path = workdir / stored_config.CONFIG
  try:
    if path.exists():
      fields = files.read_json(path)
    else:
      with stored_config.open_checkpoints(workdir) as checkpoints:
        saved = checkpoints.newest_config()
      if saved is None:
        raise UserError(
          f'--workdir={workdir}: holds no run; give the folder of a trained run'
        )
      fields = saved[1]
  except UserError:
    raise
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read: {error}') from error
  for package in _PACKAGES:
    is_object = isinstance(fields, dict)
    if is_object and importlib.import_module(package).reads(fields):
      return package
  raise UserError(f'{path}: is not the config of a run that can be explored')


def find(workdirs: list[str]) -> list[Run]:
  """The runs of --workdir, each with a name of its own.

  Raises:
    UserError: naming a folder that is missing or holds no trained run.
  """
  if not workdirs or not all(workdirs):
    raise UserError('--workdir: missing; see --help')
  runs = []
  for each in workdirs:
    workdir = epath.Path(os.path.expanduser(each))
    config_lib.require_reachable('--workdir', workdir)
    if not workdir.is_dir():
      raise UserError(f'--workdir={each}: there is no such folder')
    name = workdir.name or str(workdir)
    if name in [run.name for run in runs]:
      name = str(workdir)
    run = Run(workdir, name)
    run.steps()
    _package(workdir)
    runs.append(run)
  return runs
