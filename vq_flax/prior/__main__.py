"""Trains a prior over the codes of a trained model.

  python -m vq_flax.prior --workdir=DIR --config=NAME|FILE.py[:VARIANT]
      [--config.FIELD=VALUE ...] [--profile=START:STEPS]
      [--max_minutes=MINUTES]
  python -m vq_flax.prior --list

DIR is the workdir of a model that `vq_flax.main` has trained. The prior is
trained on its data set, in the sub-folder `prior`. --list prints the recipes
and their variants. The same command resumes from the newest checkpoint.
"""

from collections.abc import Sequence
import dataclasses
import os
import shlex
import sys

from common_flax.cli import scripts
from common_flax.cpu import startup

_SCRIPTS = {
  'python -m vq_flax.prior': 'vq-prior',
  'python -m vq_flax.sample': 'vq-sample',
  'python -m vq_flax.evaluate': 'vq-evaluate',
}
_NEXT_COMMANDS = (
  'To draw samples: python -m vq_flax.sample --workdir={model} '
  '--output=samples.png\n'
  'To bound Pr(x): python -m vq_flax.evaluate --workdir={model} '
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
    from etils import epath

    from common_flax import config as config_lib
    from common_flax.cli import exit_status
    from common_flax.cli import training_command
    from common_flax.errors import UserError
    from vq_flax.prior import config as prior_config
    from vq_flax.prior.train import train
    from vq_flax.prior.trained import folder_of
  with exit_status.reporting_errors() as status:
    command = scripts.as_called(argv, 'python -m vq_flax.prior', _SCRIPTS)
    arguments = training_command.parse(argv, command, __doc__)
    if arguments.init_from:
      raise UserError(
        f'--init_from={arguments.init_from}: priors start anew; remove it'
      )
    for field in arguments.overridden:
      place, _, name = field.partition('.')
      if place == 'dataset' and name not in prior_config.PLACES:
        raise UserError(f'config.{field}: {prior_config.OF_MODEL}')
    model = arguments.workdir
    config_lib.require_reachable('--workdir', model)
    if not epath.Path(model).is_dir():
      raise UserError(
        f'--workdir={model}: there is no such folder; give that of a trained '
        'model'
      )
    arguments = dataclasses.replace(
      arguments, workdir=os.fspath(folder_of(model))
    )
    with training_command.reporting_signals(arguments, status):
      stopped_by = train(
        training_command.settled(
          arguments, prior_config.default(), prior_config.EFFECTS
        ),
        model,
        profile=arguments.profile,
        max_minutes=arguments.max_minutes,
      )
      next_commands = scripts.as_called(argv, _NEXT_COMMANDS, _SCRIPTS)
      status.value = training_command.report(
        stopped_by,
        arguments,
        next_commands.replace('{model}', shlex.quote(model)),
      )
  return status.value


if __name__ == '__main__':
  sys.exit(main())
