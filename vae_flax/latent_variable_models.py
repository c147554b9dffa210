"""Draws latent variable models whose likelihood is tractable.

  python -m vae_flax.latent_variable_models --output=FOLDER [--seed=0]

Writes five PNGs to the folder and prints their paths: a mixture of Gaussians,
its fit by expectation maximisation, a nonlinear model with one latent, its
posteriors, and the evidence lower bound beside the log-likelihood
(Understanding Deep Learning, UDL, sections 17.1 to 17.4).
"""

from collections.abc import Sequence
import sys

from common_flax.cli import draw_command
from vae_flax.figures import mixture as mixture_figures
from vae_flax.figures import nonlinear as nonlinear_figures

# In the order of the book.
FIGURES: draw_command.Figures = {
  'mixture.png': mixture_figures.mixture_figure,
  'expectation_maximisation.png': mixture_figures.em_figure,
  'nonlinear.png': nonlinear_figures.nonlinear_figure,
  'posterior.png': nonlinear_figures.posterior_figure,
  'elbo.png': nonlinear_figures.elbo_figure,
}


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return draw_command.run(argv, FIGURES, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
