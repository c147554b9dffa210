"""Draws pictures of latent variable models whose likelihood is known.

  python -m vae_flax.latent_variable_models --output=FOLDER [--seed=0]

Writes PNGs to the folder and prints their paths: a mixture of Gaussians, its
fit by expectation maximisation, a nonlinear model of one latent with its prior,
likelihood and marginal, its posteriors, and the evidence lower bound beside the
likelihood that it bounds (Understanding Deep Learning, UDL, 17.1-17.4).
"""

from collections.abc import Callable
from collections.abc import Sequence
import io
import os
import pathlib
import sys

from absl import flags
import jax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from common_flax import commands
from common_flax import images
from common_flax import prng
from common_flax.config import UserError
from vae_flax import mixture_figures
from vae_flax import nonlinear_figures

# The files, in the order of the book.
FIGURES: dict[str, Callable[[jax.Array], Figure]] = {
  'mixture.png': mixture_figures.mixture_figure,
  'expectation_maximisation.png': mixture_figures.em_figure,
  'nonlinear.png': nonlinear_figures.nonlinear_figure,
  'posterior.png': nonlinear_figures.posterior_figure,
  'elbo.png': nonlinear_figures.elbo_figure,
}


def _png(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  FigureCanvasAgg(figure).print_png(buffer)
  return buffer.getvalue()


def _output_folder(path: str) -> pathlib.Path:
  """The folder to write to, which need not exist; nothing is written here.

  Raises:
    UserError: if the files cannot be written there.
    OSError: if there can be no such folder.
  """
  if '://' in path:
    raise UserError(f'--output={path}: give a folder on this machine')
  folder = pathlib.Path(path).expanduser()
  nearest = folder
  while not nearest.exists() and nearest != nearest.parent:
    nearest = nearest.parent
  if not nearest.is_dir():
    raise UserError(f'--output={path}: {nearest} is a file; give a folder')
  if not os.access(nearest, os.W_OK | os.X_OK):
    raise UserError(f'--output={path}: {nearest} cannot be written to')
  for name in FIGURES:
    if (folder / name).is_dir():
      raise UserError(f'--output={path}: {folder / name} is a folder')
  return folder


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'output', None, 'Folder that gets the pictures.', flag_values=values
  )
  flags.DEFINE_integer(
    'seed', 0, 'Of the samples.', 0, 2**32 - 1, flag_values=values
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'output')
  keys = jax.random.split(
    prng.stream(prng.root_key(values.seed), 'sample'), len(FIGURES)
  )
  try:
    folder = _output_folder(values.output)
    # All are drawn before any is written.
    pictures = {
      folder / name: _png(draw(key))
      for key, (name, draw) in zip(keys, FIGURES.items(), strict=True)
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in pictures.items():
      images.write_bytes(path, data)
  except OSError as error:
    raise UserError(
      f'--output={values.output}: cannot be written to: '
      f'{error.strerror or error}'
    ) from error
  for path in pictures:
    print(path)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
