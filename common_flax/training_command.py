"""The command that trains, `python -m FAMILY.main`, for every family."""

from collections.abc import Callable
from collections.abc import Sequence
import os
import pathlib
import re
import shlex

from absl import flags

from common_flax import commands
from common_flax import processes
from common_flax.config import UserError
from common_flax.signals import StoppedError

# (config, workdir, init_from, profile) -> the number of the signal that
# stopped training, or None
Train = Callable[..., int | None]


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'config',
    None,
    'The recipe, FILE.py or FILE.py:VARIANT. It is Python code that is run. '
    'Fields are overridden with --config.FIELD=VALUE.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'workdir',
    None,
    'Folder of the run; by default runs/ and the name of the recipe.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'init_from',
    None,
    'Workdir of a run from whose weights a new run starts, to fine-tune them.',
    flag_values=values,
  )
  flags.DEFINE_enum(
    'distributed',
    'auto',
    processes.MODES,
    'Join the other processes of the run: on, off, or auto, where flags, '
    'environment or a cluster that JAX knows say that there are any.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'coordinator',
    None,
    'HOST:PORT at which the first process listens; or JAX_COORDINATOR_ADDRESS.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_processes',
    None,
    'How many processes the run has; or JAX_NUM_PROCESSES.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'process_id',
    None,
    'The number of this one, from 0; or JAX_PROCESS_ID.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'profile',
    None,
    'START:STEPS: writes a trace of so many steps for TensorBoard and Perfetto '
    'to tensorboard/ in the workdir.',
    flag_values=values,
  )


def _profiled_steps(text: str | None, num_steps: int) -> range | None:
  """'100:20' -> the steps 100 to 119."""
  if text is None:
    return None
  match = re.fullmatch(r'(\d+):([1-9]\d*)', text)
  if not match:
    raise UserError(
      f'--profile={text}: give the first step and a number of steps, as 100:20'
    )
  start, count = map(int, match.groups())
  if start + count > num_steps:
    raise UserError(
      f'--profile={text}: ends beyond config.num_steps={num_steps}'
    )
  return range(start, start + count)


def default_workdir(spec: str) -> str:
  """'configs/NAME.py:VARIANT' -> 'runs/NAME_VARIANT'."""
  path, _, variant = spec.partition(':')
  return '/'.join(
    ['runs', '_'.join(filter(None, [pathlib.Path(path).stem, variant]))]
  )


def _say_finished(workdir: str, closing: Callable[[str], str]) -> None:
  folder = shlex.quote(workdir)
  print(
    f'Finished. Samples over training: {folder}/samples.gif, curves: '
    f'{folder}/curves.png, all numbers: {folder}/metrics.jsonl\n'
    f'To watch them: tensorboard --logdir={folder}\n{closing(folder)}'
  )


def run(
  argv: Sequence[str],
  train: Train,
  package: str,
  usage: str,
  closing: Callable[[str], str],
) -> int:
  """Trains as the command line asks.

  Args:
    argv: the command's name and its arguments.
    train: trains a config in a workdir.
    package: of the family, for the line that says how to go on.
    usage: shown by --help.
    closing: what to say of a finished run, given its workdir, quoted for a
      shell.

  Returns:
    The exit status.
  """

  def command(values: flags.FlagValues, arguments: list[str]) -> int:
    spec, overrides, others = commands.split_config(arguments)
    commands.parse(values, others)
    config = commands.load_config(spec, overrides)
    workdir = os.path.expanduser(values.workdir or default_workdir(spec))
    init_from = values.init_from and os.path.expanduser(values.init_from)
    profile = _profiled_steps(values.profile, config.num_steps)
    again = shlex.join(['python', '-m', f'{package}.main', *arguments])
    processes.join(
      values.distributed,
      values.coordinator,
      values.num_processes,
      values.process_id,
    )
    with processes.only_first_speaks(), processes.failing_alone():
      try:
        received = train(config, workdir, init_from, profile)
      except StoppedError as error:
        print(f'Stopped by a signal before the first step. To go on: {again}')
        return commands.signal_status(error.number)
      if received is not None:
        print(f'Stopped by a signal and checkpointed. To go on: {again}')
        return commands.signal_status(received)
      _say_finished(workdir, closing)
      return 0

  return commands.run(command, argv, _define_flags, usage)
