"""Trains a VAE.

  python -m vae_flax.main --config=NAME|FILE.py[:VARIANT] [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR] [--profile=START:STEPS]
      [--max_minutes=MINUTES]
  python -m vae_flax.main --list

--list prints the recipes and their variants. The same command on the same
workdir resumes from the newest checkpoint.
"""

from collections.abc import Sequence
import sys

from common_flax.cli import scripts
from common_flax.cpu import startup

_SCRIPTS = {
  'python -m vae_flax.main': 'vae-train',
  'python -m vae_flax.sample': 'vae-sample',
  'python -m vae_flax.evaluate': 'vae-evaluate',
}
_NEXT_COMMANDS = (
  'To draw samples: python -m vae_flax.sample --workdir={workdir} '
  '--num_samples=64 --output=samples.png\n'
  'To estimate Pr(x): python -m vae_flax.evaluate --workdir={workdir} '
  '--metrics=likelihood'
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
    from vae_flax import config as vae_config
    from vae_flax.train import train
  with exit_status.reporting_errors() as status:
    command = scripts.as_called(argv, 'python -m vae_flax.main', _SCRIPTS)
    arguments = training_command.parse(argv, command, __doc__)
    with training_command.reporting_signals(arguments, status):
      stopped_by = train(
        training_command.settled(
          arguments, vae_config.default(), vae_config.EFFECTS
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


def sample() -> int:
  """Runs `vae_flax.sample`; returns its exit status."""
  return scripts.run('vae_flax.sample')


def evaluate() -> int:
  """Runs `vae_flax.evaluate`; returns its exit status."""
  return scripts.run('vae_flax.evaluate')


if __name__ == '__main__':
  sys.exit(main())
