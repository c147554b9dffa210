"""Trains a GAN.

  python -m gan_flax.main --config=configs/dcgan.py [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR]

Started again on the same workdir, it goes on from the newest checkpoint.
"""

from collections.abc import Sequence
import os
import pathlib
import shlex
import sys

from absl import flags

from common_flax import commands
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
  received = train(config, workdir, init_from)
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
