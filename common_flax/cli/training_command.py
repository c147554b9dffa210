"""The command line of training, `python -m FAMILY.main`, for all families."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import re
import shlex
import signal
import sys
import threading

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import effects as effects_lib
from common_flax import files
from common_flax import output
from common_flax import recipes
from common_flax.cli import commands
from common_flax.cli import exit_status
from common_flax.cli import scripts
from common_flax.cli.exit_status import ExitStatus
from common_flax.config import TENSORBOARD
from common_flax.cpu import startup
from common_flax.distributed import processes
from common_flax.effects import Effects
from common_flax.errors import StoppedError
from common_flax.errors import UserError
from common_flax.workdir import layout
from common_flax.workdir import provenance

# Values of JAX's environment variables that would end runs, and why.
_MOVES = ('disallow', 'disallow_explicit'), 'it moves arrays to the devices'
_TRUE = ('1', 'true', 'yes', 'on', 'y', 't')
_IMPOSSIBLE = {
  'JAX_NUMPY_DTYPE_PROMOTION': (('strict',), 'Optax mixes types of numbers'),
  'JAX_TRANSFER_GUARD': _MOVES,
  'JAX_TRANSFER_GUARD_HOST_TO_DEVICE': _MOVES,
  'JAX_DEBUG_KEY_REUSE': (_TRUE, 'pictures at fixed latents reuse keys'),
}


def _check_environment() -> None:
  """Refuses settings of JAX that would end a run later and less clearly.

  Raises:
    UserError: naming the variable.
  """
  for name, (values, reason) in _IMPOSSIBLE.items():
    value = os.environ.get(name, '')
    if value.lower() in values:
      raise UserError(
        f'{name}={value}: training cannot use it, because {reason}; unset it '
        'in the environment'
      )


def _define_flags(values: flags.FlagValues) -> None:
  _define_process_flags(values)
  flags.DEFINE_string(
    'config',
    None,
    'The recipe: NAME of one that is shipped, or FILE.py, which is run as '
    'Python code; either may be followed by :VARIANT. Override its fields with '
    '--config.FIELD=VALUE.',
    flag_values=values,
  )
  flags.DEFINE_boolean(
    'list',
    False,
    'Print the recipes that are shipped and their variants, and exit.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'workdir',
    None,
    'Folder of the run; by default runs/NAME_VARIANT.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'init_from',
    None,
    'Workdir of a run whose weights initialise a new run, for fine-tuning.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'profile',
    None,
    'START:STEPS: writes a trace of STEPS steps, from step START on, for '
    'TensorBoard and Perfetto to tensorboard/ in the workdir.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'max_minutes',
    None,
    'Train a new run for this time: replaces config.num_steps by the number of '
    'steps after which the command ends in time.',
    flag_values=values,
  )


def _define_process_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_enum(
    'distributed',
    'auto',
    processes.MODES,
    'Join the other processes of the run: on, off, or auto, which joins them '
    'if flags or environment variables name them, or JAX detects a cluster.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'coordinator',
    None,
    'HOST:PORT of the first process; by default JAX_COORDINATOR_ADDRESS.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_processes',
    None,
    'Number of processes of the run; by default JAX_NUM_PROCESSES.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'process_id',
    None,
    'Index of this process, from 0; by default JAX_PROCESS_ID.',
    flag_values=values,
  )


def _profiled_steps(text: str | None, num_steps: int) -> range | None:
  """'100:20' -> the steps 100 to 119."""
  if text is None:
    return None
  match = re.fullmatch(r'(\d+):([1-9]\d*)', text)
  if not match:
    raise UserError(
      f'--profile={text}: give the first step and the number of steps, '
      'such as 100:20'
    )
  start, count = map(int, match.groups())
  if start + count > num_steps:
    raise UserError(
      f'--profile={text}: ends after config.num_steps={num_steps}; trace '
      'earlier or fewer steps'
    )
  return range(start, start + count)


def _remaining_minutes(
  max_minutes: float | None, argv: Sequence[str], overrides: Sequence[str]
) -> float | None:
  """What --max_minutes leaves for training, after the start of Python."""
  if max_minutes is None:
    return None
  for override in overrides:
    if override.lstrip('-').partition('=')[0] == 'config.num_steps':
      raise UserError(
        f'{override}: --max_minutes={max_minutes:g} chooses the number of '
        'steps; give only one of them'
      )
  # Called from Python, the command has taken no time yet.
  spent = startup.seconds_since_start() if argv is sys.argv else 0.0
  if not max_minutes > 0:
    return max_minutes  # refused by training
  if 60 * max_minutes <= spent:
    raise UserError(
      f'--max_minutes={max_minutes:g}: too short; Python took {spent:.0f} s to '
      'start'
    )
  return max_minutes - spent / 60


def default_workdir(spec: str) -> str:
  """'NAME:VARIANT' or 'FOLDER/NAME.py:VARIANT' -> 'runs/NAME_VARIANT'."""
  path, _, variant = spec.partition(':')
  return '/'.join(
    ['runs', '_'.join(filter(None, [pathlib.Path(path).stem, variant]))]
  )


@dataclasses.dataclass(frozen=True)
class Arguments:
  """The parsed command line of training."""

  config: ConfigDict
  workdir: str
  init_from: str | None  # workdir of the initial weights
  profile: range | None  # steps to trace
  max_minutes: float | None  # until training ends
  again: str  # the command line that resumes this run
  overridden: Sequence[str]  # fields of the recipe


def parse(argv: Sequence[str], command: str, usage: str) -> Arguments:
  """Parses the command line, and joins the other processes of the run.

  Args:
    argv: the command's name and its arguments.
    command: the command that runs this program, for the hint how to resume.
    usage: text that --help prints above the flags. It names the command, and
      the docstrings of its recipes do too.

  Raises:
    UserError: naming the invalid flag or field.
    SystemExit: after --help, --version or --list.
  """
  values, arguments = commands.define_and_split(argv, _define_flags, usage)
  if scripts.answered(arguments, usage):
    raise SystemExit(0)
  spec, overrides, others = commands.split_config(arguments)
  commands.parse(values, others)
  if values.distributed == 'off':
    commands.refuse_unused(
      values,
      'with --distributed=off; remove one of them',
      'coordinator',
      'num_processes',
      'process_id',
    )
  recipes.check_command(spec, usage)
  config = commands.load_config(spec, overrides)
  profile = _profiled_steps(values.profile, config.num_steps)
  _check_environment()
  processes.join(
    values.distributed,
    values.coordinator,
    values.num_processes,
    values.process_id,
  )
  return Arguments(
    config,
    os.path.expanduser(values.workdir or default_workdir(spec)),
    values.init_from and os.path.expanduser(values.init_from),
    profile,
    _remaining_minutes(values.max_minutes, argv, overrides),
    f'{command} {shlex.join(arguments)}',
    commands.overridden_fields(overrides),
  )


def settled(
  arguments: Arguments, default: ConfigDict, effects: Effects
) -> ConfigDict:
  """The config without what overrides have made meaningless; says so.

  Args:
    arguments: the command's arguments.
    default: the family's default config.
    effects: when the family's own fields have an effect.

  Raises:
    UserError: if the workdir cannot be reached.
  """
  config_lib.require_reachable('--workdir', arguments.workdir)
  stored = None
  if layout.has_config(arguments.workdir):
    with contextlib.suppress(UserError):  # which training reports
      stored = layout.read_config(arguments.workdir, default)
  config, lines = effects_lib.without_idle(
    arguments.config,
    layout.all_effects(effects),
    default,
    arguments.overridden,
    stored,
  )
  for line in lines:
    print(line)
  return config


def _outlive_hangup(number: int) -> None:
  """Ignores a second SIGHUP: a closed terminal may send two."""
  in_main_thread = threading.current_thread() is threading.main_thread()
  if number == signal.SIGHUP and in_main_thread:
    signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def reporting_signals(
  arguments: Arguments, status: ExitStatus
) -> Iterator[None]:
  """Reports a signal before the first step; only the first process prints.

  Args:
    arguments: the command's arguments.
    status: set to the exit status of the signal.
  """
  with (
    output.outliving_reader(),
    processes.only_first_speaks(),
    processes.failing_alone(),
    provenance.called_as(arguments.again),
  ):
    try:
      yield
    except StoppedError as error:
      _outlive_hangup(error.number)
      print(
        'Stopped by a signal before the first step. To start again: '
        f'{arguments.again}'
      )
      status.value = exit_status.signal_status(error.number)


def _has_report(workdir: str) -> bool:
  """Whether a finished run has its page: an earlier version wrote none."""
  try:
    return (epath.Path(workdir) / 'report.html').exists()
  except Exception as error:  # each store raises its own types
    if not files.is_file_error(error):
      raise
    return False


def report(
  stopped_by: int | None, arguments: Arguments, next_commands: str = ''
) -> int:
  """Prints what to do after training.

  Args:
    stopped_by: the number of the signal that stopped training, if any.
    arguments: the command's arguments.
    next_commands: printed for a finished run; {workdir} stands for its folder.

  Returns:
    The exit status.
  """
  if stopped_by is not None:
    _outlive_hangup(stopped_by)
    print(f'Stopped by a signal and checkpointed. To resume: {arguments.again}')
    return exit_status.signal_status(stopped_by)
  folder = shlex.quote(arguments.workdir)
  page = ''
  if _has_report(arguments.workdir):
    page = f', all in one page: {folder}/report.html'
  print(
    f'Finished. Samples over training: {folder}/samples.gif, curves: '
    f'{folder}/curves.png, all numbers: {folder}/metrics.jsonl{page}'
  )
  if TENSORBOARD in arguments.config.trackers:
    print(f'To watch them: tensorboard --logdir={folder}')
  if next_commands:
    print(next_commands.replace('{workdir}', folder))
  return 0
