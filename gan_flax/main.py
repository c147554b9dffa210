"""Trains a GAN.

  python -m gan_flax.main --config=configs/dcgan.py [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR] [--profile=START:STEPS]

Started again on the same workdir, it goes on from the newest checkpoint.
"""

from collections.abc import Sequence
import os
import pathlib
import re
import shlex
import sys

from absl import flags

from common_flax import commands
from common_flax.config import UserError
from gan_flax.train import train


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
  """'configs/dcgan.py:mnist' -> 'runs/dcgan_mnist'."""
  path, _, variant = spec.partition(':')
  return '/'.join(
    ['runs', '_'.join(filter(None, [pathlib.Path(path).stem, variant]))]
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> int:
  spec, overrides, others = commands.split_config(arguments)
  commands.parse(values, others)
  config = commands.load_config(spec, overrides)
  workdir = os.path.expanduser(values.workdir or default_workdir(spec))
  init_from = values.init_from and os.path.expanduser(values.init_from)
  profile = _profiled_steps(values.profile, config.num_steps)
  received = train(config, workdir, init_from, profile)
  if received is not None:
    command = shlex.join(['python', '-m', 'gan_flax.main', *arguments])
    print(f'Stopped by a signal and checkpointed. To go on: {command}')
    return commands.signal_status(received)
  folder = shlex.quote(workdir)
  print(
    f'Finished. Samples over training: {folder}/samples.gif, curves: '
    f'{folder}/curves.png, all numbers: {folder}/metrics.jsonl\n'
    f'To watch them: tensorboard --logdir={folder}\n'
    f'To draw samples: python -m gan_flax.sample --workdir={folder} '
    '--num_samples=64 --output=samples.png'
  )
  return 0


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
