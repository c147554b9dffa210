"""Commands as scripts, which pip installs beside `python -m MODULE`.

`console_scripts` in setup.cfg names them. The module is imported here, so that
--version and --list need not wait for JAX.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import importlib
import pathlib
import shutil
import signal
import sys

import common_flax
from common_flax import output
from common_flax import recipes
from common_flax.cpu import startup


def answered(arguments: Sequence[str], usage: str | None = None) -> bool:
  """Prints what --version or --list asks for.

  Args:
    arguments: of a command.
    usage: text of a training command, whose recipes --list prints; None for
      commands that have none.

  Returns:
    Whether one of them was asked for, so that there is nothing else to do.

  Raises:
    SystemExit: if nobody reads the output any more.
  """
  if {'--version', '-version'} & set(arguments):
    _print(f'gan_vae_flax {common_flax.__version__}')
    return True
  if usage and {'--list', '-list'} & set(arguments):
    # Lines that fit a terminal; whole ones elsewhere.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    _print(recipes.listing(usage, width) or 'No recipes are shipped.')
    return True
  return False


def _print(text: str) -> None:
  try:
    with output.ending_with_reader():
      print(text)
      sys.stdout.flush()
  except output.OutputClosedError:
    raise SystemExit(128 + signal.SIGPIPE) from None


def run(module: str) -> int:
  """Runs the command of a module with the arguments of this process.

  Args:
    module: its name; it has a function `main(argv)`.

  Returns:
    The exit status.
  """
  if answered(sys.argv[1:]):
    return 0
  with startup.importing():
    command = importlib.import_module(module)
  return command.main(sys.argv)


def as_called(
  argv: Sequence[str], text: str, scripts: Mapping[str, str]
) -> str:
  """Replaces commands in a text by their scripts, if the user called one.

  Args:
    argv: the command's name and its arguments.
    text: names commands as `python -m MODULE`.
    scripts: the scripts by command.
  """
  if pathlib.PurePath(argv[0]).stem in scripts.values():
    for command, script in scripts.items():
      text = text.replace(command, script)
  return text


def prepare() -> int:
  """Runs `common_flax.prepare`; returns its exit status."""
  return run('common_flax.prepare')


def compare() -> int:
  """Runs `common_flax.compare`; returns its exit status."""
  return run('common_flax.compare')


def compare_runs() -> int:
  """Runs `common_flax.compare_runs`; returns its exit status."""
  return run('common_flax.compare_runs')


def report() -> int:
  """Runs `common_flax.report`; returns its exit status."""
  return run('common_flax.report.__main__')


def explore() -> int:
  """Runs `common_flax.explore`; returns its exit status."""
  return run('common_flax.explore.__main__')


def export() -> int:
  """Runs `common_flax.export`; returns its exit status."""
  return run('common_flax.export.__main__')
