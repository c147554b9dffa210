"""Trains a VQ-VAE or an FSQ autoencoder.

  python -m vq_flax.main --config=NAME|FILE.py[:VARIANT] [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR] [--profile=START:STEPS]
      [--max_minutes=MINUTES]
  python -m vq_flax.main --list

--list prints the recipes and their variants. The same command on the same
workdir resumes from the newest checkpoint.
"""

from collections.abc import Sequence
import sys

from common_flax.cli import scripts
from common_flax.cpu import startup

_SCRIPTS = {
  'python -m vq_flax.main': 'vq-train',
  'python -m vq_flax.prior': 'vq-prior',
  'python -m vq_flax.sample': 'vq-sample',
  'python -m vq_flax.evaluate': 'vq-evaluate',
}
_NEXT_COMMANDS = (
  'To see reconstructions: python -m vq_flax.sample --workdir={workdir} '
  '--kind=reconstruction --output=reconstructions.png\n'
  'To train a prior over its codes: python -m vq_flax.prior '
  '--workdir={workdir} --config=vq_prior\n'
  'To bound Pr(x): python -m vq_flax.evaluate --workdir={workdir} '
  '--metrics=bound'
)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status.

  Args:
    argv: name and arguments of the command; None for those of this process.
  """
  argv = sys.argv if argv is None else argv
  if scripts.answered(argv[1:], __doc__):
    return 0
  with startup.importing():  # JAX must not be imported before this
    from common_flax.cli import exit_status
    from common_flax.cli import training_command
    from vq_flax import config as vq_config
    from vq_flax.train import train
  with exit_status.reporting_errors() as status:
    command = scripts.as_called(argv, 'python -m vq_flax.main', _SCRIPTS)
    arguments = training_command.parse(argv, command, __doc__)
    with training_command.reporting_signals(arguments, status):
      stopped_by = train(
        training_command.settled(
          arguments, vq_config.default(), vq_config.EFFECTS
        ),
        arguments.workdir,
        init_from=arguments.init_from,
        profile=arguments.profile,
        max_minutes=arguments.max_minutes,
      )
      status.value = training_command.report(
        stopped_by,
        arguments,
        scripts.as_called(argv, _NEXT_COMMANDS, _SCRIPTS),
      )
  return status.value


def prior() -> int:
  """Runs `vq_flax.prior`; returns its exit status."""
  return scripts.run('vq_flax.prior.__main__')


def sample() -> int:
  """Runs `vq_flax.sample`; returns its exit status."""
  return scripts.run('vq_flax.sample')


def evaluate() -> int:
  """Runs `vq_flax.evaluate`; returns its exit status."""
  return scripts.run('vq_flax.evaluate')


if __name__ == '__main__':
  sys.exit(main())
