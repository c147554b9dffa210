"""Draws pictures of latent variable models whose likelihood is known.

  python -m vae_flax.latent_variable_models --output=FOLDER [--seed=0]

Writes PNGs to the folder and prints their paths: a mixture of Gaussians, its
fit by expectation maximisation, a nonlinear model of one latent with its prior,
likelihood and marginal, its posteriors, and the evidence lower bound beside the
likelihood that it bounds (Understanding Deep Learning, UDL, 17.1-17.4).
"""

from collections.abc import Sequence
import sys

from common_flax import figure_command
from vae_flax import mixture_figures
from vae_flax import nonlinear_figures

# The files, in the order of the book.
FIGURES: figure_command.Figures = {
  'mixture.png': mixture_figures.mixture_figure,
  'expectation_maximisation.png': mixture_figures.em_figure,
  'nonlinear.png': nonlinear_figures.nonlinear_figure,
  'posterior.png': nonlinear_figures.posterior_figure,
  'elbo.png': nonlinear_figures.elbo_figure,
}


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return figure_command.run(argv, FIGURES, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
