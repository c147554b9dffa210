"""Trains a GAN.

  python -m gan_flax.main --config=configs/dcgan.py [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR] [--profile=START:STEPS]
      [--max_minutes=MINUTES]

Run it again on the same workdir to resume from the newest checkpoint.
"""

from collections.abc import Sequence
import sys

from common_flax.cpu import startup

_NEXT_COMMANDS = (
  'To draw samples: python -m gan_flax.sample --workdir={workdir} '
  '--num_samples=64 --output=samples.png'
)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  with startup.importing():  # JAX must not be imported before this
    from common_flax.cli import exit_status
    from common_flax.cli import training_command
    from gan_flax.train import train
  with exit_status.reporting_errors() as status:
    arguments = training_command.parse(argv, 'python -m gan_flax.main', __doc__)
    with training_command.reporting_signals(arguments, status):
      stopped_by = train(
        arguments.config,
        arguments.workdir,
        init_from=arguments.init_from,
        profile=arguments.profile,
        max_minutes=arguments.max_minutes,
      )
      status.value = training_command.report(
        stopped_by, arguments, _NEXT_COMMANDS
      )
  return status.value


if __name__ == '__main__':
  sys.exit(main(sys.argv))
