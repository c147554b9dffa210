"""Commands: their flags, and what they say and return when something is wrong.

A command is a function main(argv) that returns an exit status: 0 when it did
what it was asked, 2 when what the user gave is wrong, and 1 when training was
stopped since it fails or a file cannot be written, with one line on stderr.
Its flags live in an object of the call, so that commands can be called from
Python as often as one likes.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import logging as python_logging
import os
import re
import signal
import sys
import warnings

from absl import flags
from absl import logging
from etils import epath
import jax
from ml_collections import config_flags
from ml_collections import ConfigDict

from common_flax import caches
from common_flax import config as config_lib
from common_flax import files
from common_flax import memory
from common_flax.alarms import TrainingFailedError
from common_flax.config import UserError


def signal_status(number: int) -> int:
  """The exit status of a command that a signal stopped: 143, 130."""
  return 128 + number


def _cache_compiled() -> None:
  """Keeps compiled programs in the user's cache folder, unless told where."""
  if jax.config.jax_compilation_cache_dir is None:
    folder = caches.folder('compiled')
    jax.config.update('jax_compilation_cache_dir', str(folder))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)


def _print_error(error: Exception | str) -> None:
  print(f'error: {files.one_line(str(error))}', file=sys.stderr)


def define_integers(values: flags.FlagValues, **defaults: int) -> None:
  """Defines flags of numbers from 1 on, whose names say enough."""
  for name, default in defaults.items():
    flags.DEFINE_integer(name, default, '', 1, flag_values=values)


def define_run_flags(values: flags.FlagValues) -> None:
  """Defines the flags of commands that use a trained run."""
  flags.DEFINE_string(
    'workdir', None, 'Folder of a trained run.', flag_values=values
  )
  flags.DEFINE_integer(
    'seed',
    0,
    'Of everything that is drawn.',
    0,
    2**32 - 1,
    flag_values=values,
  )
  flags.DEFINE_boolean(
    'ema',
    True,
    'Take the moving average of the weights; --noema takes the last ones.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'step',
    None,
    'Of the checkpoint to take; by default the newest.',
    0,
    flag_values=values,
  )


@contextlib.contextmanager
def without_echoes() -> Iterator[None]:
  """Leaves unsaid what is said of each read or write after one that failed.

  Orbax waits for none of them any more, and they are collected as garbage.
  """
  before = sys.unraisablehook

  def hook(unraisable):
    error = unraisable.exc_value
    is_closed = str(error) == 'Event loop is closed'
    is_collected = isinstance(error.__cause__, GeneratorExit)
    if not (is_closed or is_collected):
      before(unraisable)

  sys.unraisablehook = hook
  try:
    yield
  finally:
    sys.unraisablehook = before


def run(
  command: Callable[[flags.FlagValues, list[str]], int | None],
  argv: Sequence[str],
  define_flags: Callable[[flags.FlagValues], None],
  usage: str,
) -> int:
  """Parses flags, runs a command, and turns errors of the user into a line.

  Args:
    command: takes the parsed flags and the arguments after the command's name;
      returns an exit status, None for 0.
    argv: the command's name and its arguments.
    define_flags: defines the command's flags.
    usage: shown by --help, above the flags.

  Returns:
    The exit status.
  """
  # What libraries say there is raised as well, or nothing to be done about.
  logging.set_verbosity(logging.FATAL)
  for library in ('asyncio', 'gcsfs'):
    python_logging.getLogger(library).setLevel(python_logging.CRITICAL)
  warnings.filterwarnings('ignore', 'coroutine .* was never awaited')
  memory.keep_freed()
  _cache_compiled()
  values = flags.FlagValues()
  define_flags(values)
  # No shell passes one on, and no file can be called so.
  arguments = [argument.replace('\0', r'\0') for argument in argv[1:]]
  if {'--help', '-h', '-help'} & set(arguments):
    print(f'{usage.strip()}\n{values.get_help()}')
    return 0
  try:
    with without_echoes():
      return command(values, arguments) or 0
  except UserError as error:
    _print_error(error)
    return 2
  except TrainingFailedError as error:
    _print_error(error)
    return 1
  except KeyboardInterrupt:
    return signal_status(signal.SIGINT)
  except Exception as error:
    if not files.is_file_error(error):
      raise
    # A disk is full, a file is gone, a store cannot be reached.
    path = getattr(error, 'filename', None)
    where = f'{path}: ' if path else ''
    _print_error(f'{where}{getattr(error, "strerror", None) or error}')
    return 1


def parse(
  values: flags.FlagValues,
  arguments: Sequence[str],
  positional: Sequence[str] = (),
) -> list[str]:
  """Parses flags, and takes a command's other arguments.

  Args:
    values: gets the flags.
    arguments: of the command.
    positional: what to call the arguments that are no flags.

  Returns:
    The arguments that are no flags, as many as `positional`.

  Raises:
    UserError: naming the flag that is unknown or wrong, or an argument that is
      missing or too much.
  """
  try:
    rest = values(['', *arguments])[1:]
  except flags.Error as error:
    raise UserError(' '.join(str(error).split())) from error
  if len(rest) > len(positional):
    extra = rest[len(positional)]
    raise UserError(f'unexpected argument {extra!r}; see --help')
  if len(rest) < len(positional):
    raise UserError(f'{positional[len(rest)]}: missing; see --help')
  # Grain reads absl's global flags, which nobody else parses here.
  flags.FLAGS.mark_as_parsed()
  return rest


def require_flags(values: flags.FlagValues, *names: str) -> None:
  """Refuses to go on without flags that have no default."""
  for name in names:
    if not values[name].value:
      raise UserError(f'--{name}: missing; see --help')


def existing_workdir(values: flags.FlagValues) -> epath.Path:
  """The folder that --workdir names.

  Raises:
    UserError: if it is not given or there is none.
  """
  require_flags(values, 'workdir')
  workdir = epath.Path(os.path.expanduser(values.workdir))
  config_lib.require_reachable('--workdir', workdir)
  if not workdir.is_dir():
    raise UserError(f'--workdir={workdir}: there is no such folder')
  return workdir


def split_config(
  arguments: Sequence[str],
) -> tuple[str, list[str], list[str]]:
  """Takes --config and its overrides out of a command's arguments.

  Returns:
    The recipe's `FILE.py[:VARIANT]`, the overrides `--config.field=value`, and
    the other arguments.

  Raises:
    UserError: if there is no --config.
  """
  spec, overrides, others = None, [], []
  rest = list(arguments)
  while rest:
    argument = rest.pop(0)
    name, has_value, value = argument.lstrip('-').partition('=')
    # `--flag value`: what looks like a flag is the next one, no value.
    follows = not has_value and rest and not re.match('--?[a-z]', rest[0])
    if not argument.startswith('-'):
      others.append(argument)
    elif name == 'config':
      spec = value if has_value else rest.pop(0) if follows else None
    elif name.startswith(('config.', 'noconfig.')):
      overrides.append(argument)
      if follows:
        overrides.append(rest.pop(0))
    else:
      others.append(argument)
  if not spec:
    raise UserError(
      '--config: missing; give a recipe, such as --config=configs/dcgan.py'
    )
  return spec, overrides, others


def load_config(spec: str, overrides: Sequence[str]) -> ConfigDict:
  """Runs a recipe and applies `--config.field=value` overrides.

  Raises:
    UserError: naming the recipe or field that is wrong.
  """
  config = config_lib.load(spec)
  known = config_lib.flatten(config)
  for override in overrides:
    if override.startswith('-'):
      name = override.lstrip('-').partition('=')[0]
      name = name.removeprefix('noconfig.').removeprefix('config.')
      if name not in known:
        raise config_lib.unknown_field(name, known)
  values = flags.FlagValues()
  config_flags.DEFINE_config_dict(
    'config', config, flag_values=values, sys_argv=['', *overrides]
  )
  try:
    parse(values, overrides)
  except (TypeError, ValueError) as error:
    raise UserError(' '.join(str(error).split())) from error
  return values.config
