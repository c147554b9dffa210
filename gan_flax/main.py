"""Trains a GAN.

  python -m gan_flax.main --config=configs/dcgan.py [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR] [--profile=START:STEPS]

Started again on the same workdir, it goes on from the newest checkpoint.
"""

from collections.abc import Sequence
import sys

from common_flax import startup


def _closing(folder: str) -> str:
  return (
    f'To draw samples: python -m gan_flax.sample --workdir={folder} '
    '--num_samples=64 --output=samples.png'
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  with startup.importing():  # before which nothing may import JAX
    from common_flax import training_command
    from gan_flax.train import train
  return training_command.run(argv, train, 'gan_flax', __doc__, _closing)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
