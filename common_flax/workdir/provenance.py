"""How a run came about: `run.json` in its workdir, for reports and for people.

It holds what the config does not: the command, the data's size, the number of
parameters, and the machine, versions and times of each start.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import contextvars
import dataclasses
import datetime
import functools
import json
import os
import platform
import sys
from typing import Any

from etils import epath
import jax

import common_flax
from common_flax import files

FILE = 'run.json'
_MAX_STARTS = 100  # that are kept: the first and the newest
_MAX_BYTES = 2**22
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax.checkpoint', 'numpy')
_PROCESSORS = '/proc/cpuinfo'

_command: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  'command', default=None
)


@contextlib.contextmanager
def called_as(command: str) -> Iterator[None]:
  """Runs that begin in the body remember the command that started them."""
  token = _command.set(command)
  try:
    yield
  finally:
    _command.reset(token)


@dataclasses.dataclass
class Start:
  """A start or resumption of a run."""

  step: int  # train steps completed before it
  began: str  # in ISO 8601
  command: str | None = None  # None if it was called from Python
  devices: str = ''
  machine: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  ended: str | None = None  # None if it runs, was killed, or failed
  reached: int | None = None  # train steps completed at its end


@dataclasses.dataclass
class Provenance:
  """What run.json holds."""

  function: str = ''  # the train step, such as 'family.steps.train_step'
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  parameters: Mapping[str, int] = dataclasses.field(default_factory=dict)
  panels: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
  starts: list[Start] = dataclasses.field(default_factory=list)


def start_now(step: int, devices: str) -> Start:
  """Describes a start in this process."""
  return Start(step, now(), _command.get(), devices, machine(), versions())


def num_parameters(
  networks: Mapping[str, Any], num_runs: int
) -> dict[str, int]:
  """The number of parameters of each network.

  Args:
    networks: pytrees of arrays by the network's name.
    num_runs: how many runs of several seeds they hold.
  """
  return {
    name: sum(leaf.size for leaf in jax.tree.leaves(params)) // num_runs
    for name, params in networks.items()
  }


def name_of(function: Callable) -> str:
  """The module and name of a function, such as 'family.steps.train_step'."""
  while isinstance(function, functools.partial):
    function = function.func
  name = getattr(function, '__qualname__', type(function).__name__)
  return f'{function.__module__}.{name}'


def now() -> str:
  """The time in ISO 8601, to the second."""
  time = datetime.datetime.now(datetime.UTC)
  return time.isoformat(timespec='seconds')


def versions() -> dict[str, str]:
  """The versions of Python, of this project and of the libraries in use."""
  found = {
    'python': platform.python_version(),
    'gan_vae_flax': common_flax.__version__,
  }
  for name in _LIBRARIES:
    version = getattr(sys.modules.get(name), '__version__', None)
    if version:
      found[name] = str(version)
  return found


def machine() -> dict[str, Any]:
  """The system, the processor, and the cores that this process may use."""
  affinity = getattr(os, 'sched_getaffinity', None)
  system = platform.uname()
  cores = len(affinity(0)) if affinity else os.cpu_count()
  return {
    'system': f'{system.system} {system.release} {system.machine}',
    'processor': _processor(),
    'cores': cores,
  }


def _processor() -> str:
  with contextlib.suppress(OSError), open(_PROCESSORS) as file:
    for line in file:
      name, _, value = line.partition(':')
      if name.strip() == 'model name':
        return value.strip()
  return platform.processor() or platform.machine()


def write(workdir: epath.PathLike, provenance: Provenance) -> None:
  """Writes run.json.

  Raises:
    OSError: or the error of an object store, if it cannot be written.
  """
  starts = provenance.starts
  if len(starts) > _MAX_STARTS:
    starts = [starts[0], *starts[1 - _MAX_STARTS :]]
  kept = dataclasses.replace(provenance, starts=starts)
  text = json.dumps(dataclasses.asdict(kept), indent=2) + '\n'
  files.write_bytes(epath.Path(workdir) / FILE, text.encode())


def read(workdir: epath.PathLike) -> Provenance | None:
  """Reads run.json; None if an earlier version trained the run.

  Raises:
    OSError: if it cannot be read.
    ValueError: if it is damaged.
  """
  path = epath.Path(workdir) / FILE
  if not path.exists():
    return None
  stored = files.read_json(path, _MAX_BYTES)
  try:
    starts = [Start(**start) for start in stored.pop('starts')]
    provenance = Provenance(**stored, starts=starts)
    fields = dataclasses.fields(Provenance)
    kinds = {field.name: type(getattr(_EMPTY, field.name)) for field in fields}
    for name, kind in kinds.items():
      if not isinstance(getattr(provenance, name), kind):
        raise TypeError(f'{name} is no {kind.__name__}')
    for names in provenance.panels.values():
      if not all(isinstance(name, str) for name in names):
        raise TypeError('panels hold no names')
    for start in starts:
      for name, kinds in _KINDS.items():
        if not isinstance(getattr(start, name), kinds):
          raise TypeError(f'{name} of a start has another type')
  except (KeyError, TypeError) as error:
    raise ValueError(f'is no record of a run: {error}') from error
  return provenance


def earlier_starts(workdir: epath.PathLike) -> list[Start]:
  """The starts in run.json; [] if it is missing or cannot be read."""
  try:
    known = read(workdir)
  except Exception as error:  # each store raises its own types
    if not (files.is_file_error(error) or isinstance(error, ValueError)):
      raise
    return []
  return known.starts if known else []


_EMPTY = Provenance()
_KINDS = {  # of the fields of a start
  'step': int,
  'began': str,
  'command': str | None,
  'devices': str,
  'machine': dict,
  'versions': dict,
  'ended': str | None,
  'reached': int | None,
}
