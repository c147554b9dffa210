"""Draws the game of a GAN whose generator has one parameter (UDL 15.1).

  python -m gan_flax.one_parameter_gan --output=FOLDER [--seed=0]

Writes PNGs to the folder and prints their paths: the game turn by turn, what
goes into the losses, and the parameters over many rounds (Understanding Deep
Learning, UDL, figures 15.1 and 15.2).
"""

from collections.abc import Sequence
import sys

from common_flax import figure_command
from gan_flax import toy_figures

FIGURES: figure_command.Figures = {
  'mechanism.png': toy_figures.mechanism_figure,
  'losses.png': toy_figures.losses_figure,
  'training.png': toy_figures.training_figure,
}


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return figure_command.run(argv, FIGURES, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
