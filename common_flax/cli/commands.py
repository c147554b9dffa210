"""Commands: flags, one-line errors and exit statuses.

A command is a function main(argv) that returns an exit status: 0 on success, 2
if the user's input is invalid, and 1 if training fails or a file cannot be
written. Errors print one line on stderr. Flags live in an object of the call,
so commands can be called from Python repeatedly.
"""

import ast
from collections.abc import Callable
from collections.abc import Sequence
import os
import re

from absl import flags
from etils import epath
from ml_collections import config_flags
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax.cli import exit_status
from common_flax.cli import scripts
from common_flax.errors import UserError


class _SizeParser(flags.ArgumentParser):
  """Parses the size of images: 48, or (64,128)."""

  def parse(self, argument: int | tuple | str) -> int | tuple | None:
    if not isinstance(argument, str):  # a default
      return argument
    try:
      value = ast.literal_eval(argument)
    except (SyntaxError, ValueError):
      value = argument
    if not isinstance(value, int | tuple | None):
      raise ValueError('give the number of pixels of a side, or (HEIGHT,WIDTH)')
    return value

  def flag_type(self) -> str:
    return 'size'


config_flags.register_flag_parser_for_type(config_lib.SIZE_TYPE, _SizeParser())


def define_integers(values: flags.FlagValues, **defaults: int) -> None:
  """Defines integer flags of at least 1 that need no help text."""
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
    'Seed of all random draws.',
    0,
    2**32 - 1,
    flag_values=values,
  )
  flags.DEFINE_boolean(
    'ema',
    True,
    'Use the moving average of the weights; --noema uses the latest weights.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'step',
    None,
    'Step of the checkpoint to use; by default the newest.',
    0,
    flag_values=values,
  )


def define_and_split(
  argv: Sequence[str],
  define_flags: Callable[[flags.FlagValues], None],
  usage: str,
) -> tuple[flags.FlagValues, list[str]]:
  """Defines a command's flags; --help prints them, --version the version.

  Args:
    argv: the command's name and its arguments.
    define_flags: defines the flags.
    usage: text that --help prints above the flags.

  Returns:
    The flags, not yet parsed, and the arguments.

  Raises:
    SystemExit: after --help or --version.
  """
  values = flags.FlagValues()
  define_flags(values)
  flags.DEFINE_boolean(
    'version', False, 'Print the version and exit.', flag_values=values
  )
  # A shell passes no null characters, and no file name holds one.
  arguments = [argument.replace('\0', r'\0') for argument in argv[1:]]
  if {'--help', '-h', '-help'} & set(arguments):
    print(f'{usage.strip()}\n{values.get_help()}')
    raise SystemExit(0)
  if scripts.answered(arguments):
    raise SystemExit(0)
  return values, arguments


def run(
  command: Callable[[flags.FlagValues, list[str]], int | None],
  argv: Sequence[str],
  define_flags: Callable[[flags.FlagValues], None],
  usage: str,
) -> int:
  """Runs a command with its flags; reports the user's errors.

  Args:
    command: takes the flags and the arguments after the command's name; returns
      an exit status, None for 0.
    argv: the command's name and its arguments.
    define_flags: defines the command's flags.
    usage: text that --help prints above the flags.

  Returns:
    The exit status.
  """
  with exit_status.reporting_errors() as status:
    values, arguments = define_and_split(argv, define_flags, usage)
    status.value = command(values, arguments) or 0
  return status.value


def parse(
  values: flags.FlagValues,
  arguments: Sequence[str],
  positional: Sequence[str] = (),
) -> list[str]:
  """Parses the flags and positional arguments of a command.

  Args:
    values: receives the values of the flags.
    arguments: the arguments of the command.
    positional: names of the positional arguments, for messages.

  Returns:
    The positional arguments.

  Raises:
    UserError: naming an unknown or invalid flag, or a missing or unexpected
      argument.
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
  # Grain reads absl's global flags, which nothing else parses.
  flags.FLAGS.mark_as_parsed()
  return rest


def require_flags(values: flags.FlagValues, *names: str) -> None:
  """Requires flags that have no default."""
  for name in names:
    if not values[name].value:
      raise UserError(f'--{name}: missing; see --help')


def refuse_unused(values: flags.FlagValues, reason: str, *names: str) -> None:
  """Refuses flags that were set but have no effect.

  Args:
    values: the parsed flags.
    reason: completes "has no effect", and says what to do.
    *names: of the flags that have no effect.

  Raises:
    UserError: naming the first of them that differs from its default.
  """
  for name in names:
    flag = values[name]
    if flag.value != flag.default:
      raise UserError(f'--{name}={flag.value}: has no effect {reason}')


def existing_workdir(values: flags.FlagValues) -> epath.Path:
  """The folder that --workdir names.

  Raises:
    UserError: if --workdir or the folder is missing.
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
  """Separates --config and its overrides from a command's other arguments.

  Returns:
    The recipe's `NAME[:VARIANT]` or `FILE.py[:VARIANT]`, the overrides
    `--config.field=value`, and the other arguments.

  Raises:
    UserError: if --config is missing.
  """
  spec, overrides, others = None, [], []
  rest = list(arguments)
  while rest:
    argument = rest.pop(0)
    name, has_value, value = argument.lstrip('-').partition('=')
    # `--flag value`, unless the next argument looks like a flag itself.
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
      '--config: missing; give a recipe by its name, such as --config=quick, '
      'or FILE.py'
    )
  return spec, overrides, others


def overridden_fields(overrides: Sequence[str]) -> list[str]:
  """The fields that arguments `--config.field=value` set."""
  names = [
    override.lstrip('-').partition('=')[0]
    for override in overrides
    if override.startswith('-')
  ]
  return [
    name.removeprefix('noconfig.').removeprefix('config.') for name in names
  ]


def load_config(spec: str, overrides: Sequence[str]) -> ConfigDict:
  """Runs a recipe and applies `--config.field=value` overrides.

  Raises:
    UserError: naming the invalid recipe or field.
  """
  config = config_lib.load(spec)
  known = config_lib.flatten(config)
  for name in overridden_fields(overrides):
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
