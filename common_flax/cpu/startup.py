"""Faster imports, for commands whose users are waiting."""

from collections.abc import Iterator
import contextlib
import gc
import importlib.util
import os
import sys
import time

_IMPORTED = time.monotonic()  # where the system does not tell more


def seconds_since_start() -> float:
  """Seconds since this process started, as far as the system tells.

  Linux counts its start in clock ticks since the boot; elsewhere the import of
  this module stands for it.
  """
  try:
    with open('/proc/self/stat') as file:
      # The name in parentheses may hold spaces; the start is the 22nd field.
      ticks = int(file.read().rpartition(')')[2].split()[19])
    started = ticks / os.sysconf('SC_CLK_TCK')
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started
  except (OSError, ValueError, IndexError, AttributeError):
    return time.monotonic() - _IMPORTED


def open_standard_files() -> None:
  """Opens the standard files that whoever started the process has closed.

  The next files to be opened would take their numbers, and what libraries print
  would end in a checkpoint.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


@contextlib.contextmanager
def importing() -> Iterator[None]:
  """Turns garbage collection off while importing.

  Imports leave no garbage, and searching for it takes a quarter of the time of
  importing JAX, Flax and Orbax. Later collections skip all objects that exist
  when the block ends, which saves another 0.2 s when a step is compiled. Does
  nothing if JAX is imported already or garbage collection is off. The standard
  files are opened first.

  Raises:
    SystemExit: with status 2, if JAX refuses one of its environment variables;
      a line on stderr names it.
  """
  open_standard_files()
  try:
    with _without_garbage_collection():
      yield
  except ValueError as error:
    name = _variable_in(str(error))
    if name is None:
      raise
    print(
      f'error: {name}={os.environ[name]}: {error}; unset it in the '
      'environment, or give it another value',
      file=sys.stderr,
    )
    raise SystemExit(2) from error


def _variable_in(message: str) -> str | None:
  """The environment variable of JAX that a message names, if any."""
  names = message.upper().replace('.', '_')  # jax.default_device, for example
  set_here = (name for name in os.environ if name.startswith('JAX_'))
  return next((name for name in set_here if name in names), None)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
  if 'jax' in sys.modules or not gc.isenabled():
    yield
    return
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    gc.enable()


def is_installed(name: str) -> bool:
  """Whether a package can be imported.

  A folder without `__init__.py`, such as one of data in the current folder that
  has the package's name, is no package, though Python would import it.
  """
  spec = importlib.util.find_spec(name)
  return spec is not None and spec.origin is not None


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
  """Hides an installed package from imports, unless it is imported already.

  It saves seconds where a package imports a large one that it does not need.
  """
  if name in sys.modules:
    yield
    return
  sys.modules[name] = None
  try:
    yield
  finally:
    del sys.modules[name]
