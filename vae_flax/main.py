"""Trains a VAE.

  python -m vae_flax.main --config=configs/vae.py [--workdir=DIR]
      [--config.FIELD=VALUE ...] [--init_from=WORKDIR] [--profile=START:STEPS]

Started again on the same workdir, it goes on from the newest checkpoint.
"""

from collections.abc import Sequence
import sys

from common_flax import startup


def _closing(folder: str) -> str:
  return (
    f'To draw samples: python -m vae_flax.sample --workdir={folder} '
    '--num_samples=64 --output=samples.png\n'
    f'To estimate Pr(x): python -m vae_flax.evaluate --workdir={folder} '
    '--metrics=likelihood'
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  with startup.importing():  # before which nothing may import JAX
    from common_flax import training_command
    from vae_flax.train import train
  return training_command.run(argv, train, 'vae_flax', __doc__, _closing)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
