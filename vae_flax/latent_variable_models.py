"""Draws pictures of latent variable models whose likelihood is known.

  python -m vae_flax.latent_variable_models --output=FOLDER [--seed=0]

Writes PNGs to the folder and prints their paths: a mixture of Gaussians, its
fit by expectation maximisation, a nonlinear model of one latent with its prior,
likelihood and marginal, its posteriors, and the evidence lower bound beside the
likelihood that it bounds (Understanding Deep Learning, UDL, 17.1-17.4).
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import io
import os
import pathlib
import sys

from absl import flags
import jax
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
import numpy as np

from common_flax import commands
from common_flax import images
from common_flax import prng
from common_flax.config import UserError
from vae_flax import mixture as mixture_lib
from vae_flax import nonlinear
from vae_flax.mixture import Mixture

_DPI = 150
_INK = '#222222'
_GREY = '#9a9a9a'
_COLOURS = ('#3b75af', '#e1812c', '#3a923a', '#b13c6c')
_LATENT_COLOURS = 'viridis'

_TRUTH = Mixture(
  weights=np.float32([0.25, 0.45, 0.3]),
  means=np.float32([-2.5, 0.4, 3.0]),
  variances=np.float32([0.36, 0.64, 1.0]),
)
# Too close together, so that the components have to find their places.
_EM_START = Mixture(
  weights=np.float32([1, 1, 1]) / np.float32(3),
  means=np.float32([-1.0, 0.0, 1.0]),
  variances=np.float32([1.0, 1.0, 1.0]),
)
_EM_STEPS = (0, 1, 4, 8, 60)
_NUM_EM_DATA = 500
_MIXTURE_LIMITS = (-5.5, 6.5)
_MIXTURE_POINTS = np.linspace(*_MIXTURE_LIMITS, 400, dtype=np.float32)

# Posteriors here are no sharper than 0.03: spacing 0.02 leaves no error to see.
_MODEL = dataclasses.replace(nonlinear.BOOK_MODEL, num_points=801)
_X_LIMITS = ((-0.4, 2.0), (-1.6, 1.6))
_Z_LIMITS = (-3.0, 3.0)
_ELBO_X = np.float32([0.9, -0.9])

# Compiled whole: to compile their operations one by one takes far longer.
_component_log_densities = jax.jit(mixture_lib.component_log_densities)
_fit = jax.jit(mixture_lib.fit, static_argnames='num_steps')
_sample_mixture = jax.jit(mixture_lib.sample, static_argnames='num')
_decode = jax.jit(_MODEL.decode)
_sample = jax.jit(nonlinear.sample, static_argnames=('model', 'num'))
_log_marginal = jax.jit(nonlinear.log_marginal, static_argnames='model')
_posterior = jax.jit(nonlinear.posterior, static_argnames='model')
_elbo = jax.jit(nonlinear.elbo, static_argnames='model')


def _figure(width: float, height: float) -> Figure:
  """An empty picture, in inches."""
  figure = Figure(figsize=(width, height), dpi=_DPI, layout='constrained')
  figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
  return figure


def _finish(panel: Axes, title: str, x_label: str, y_label: str = '') -> None:
  panel.set_title(title, fontsize=11)
  panel.set_xlabel(x_label)
  panel.set_ylabel(y_label)
  panel.spines[['top', 'right']].set_visible(False)


def _with_true_minus(number: str) -> str:
  return number.replace('-', '−')  # as on the axes


def _bell(points: np.ndarray, mean: float, deviation: float) -> np.ndarray:
  """The density of a Gaussian at points."""
  squares = ((points - mean) / deviation) ** 2
  return np.exp(-0.5 * squares) / (deviation * np.sqrt(2 * np.pi))


def _weighted_components(mixture: Mixture) -> np.ndarray:
  """λ_n N(x; μ_n, σ²_n) at _MIXTURE_POINTS, [400, N]; their sum is Pr(x)."""
  log_densities = _component_log_densities(mixture, _MIXTURE_POINTS)
  return mixture.weights * np.exp(log_densities)


def _draw_mixture(panel: Axes, mixture: Mixture, is_filled: bool) -> None:
  """Weighted components in colours under their sum."""
  components = _weighted_components(mixture)
  for component, colour in zip(components.T, _COLOURS, strict=False):
    if is_filled:
      panel.fill_between(
        _MIXTURE_POINTS, component, color=colour, alpha=0.25, lw=0
      )
    panel.plot(_MIXTURE_POINTS, component, color=colour, linewidth=1.6)
  _draw_density(panel, components)


def _draw_density(panel: Axes, components: np.ndarray) -> None:
  """Pr(x) from its components [400, N]."""
  density = components.sum(axis=1)
  panel.plot(_MIXTURE_POINTS, density, color=_INK, linewidth=1.8, label='Pr(x)')
  panel.set_xlim(_MIXTURE_LIMITS)
  panel.set_xticks(range(-4, 7, 2))


def _mixture_figure(key: jax.Array) -> Figure:
  """Prior over z, components under the marginal, ancestral samples."""
  num = 5_000
  components, x = map(np.asarray, _sample_mixture(_TRUTH, key, num))
  figure = _figure(11, 3.4)
  prior, marginal, samples = figure.subplots(1, 3, width_ratios=(1, 2, 2))
  names = range(1, len(_TRUTH.weights) + 1)
  colours = _COLOURS[: len(_TRUTH.weights)]
  prior.bar(names, _TRUTH.weights, color=colours, width=0.6)
  prior.set_xticks(names)
  _finish(prior, 'Prior', 'component z', 'Pr(z = n) = $λ_n$')

  _draw_mixture(marginal, _TRUTH, is_filled=True)
  curves = _weighted_components(_TRUTH)
  for n, mean, peak, colour in zip(
    names, _TRUTH.means, curves.max(axis=0), colours, strict=True
  ):
    marginal.text(mean, 0.3 * peak, f'z = {n}', color=colour, ha='center')
  marginal.legend(frameon=False)
  _finish(marginal, 'Marginal, the sum of the components', 'x', 'density')

  parts = [x[components == i] for i in range(len(colours))]
  bins = np.linspace(*_MIXTURE_LIMITS, 49)
  share = 1 / (num * (bins[1] - bins[0]))  # a sample's part of a density
  weights = [np.full(len(part), share) for part in parts]
  samples.hist(
    parts, bins, weights=weights, stacked=True, color=colours, alpha=0.75
  )
  _draw_density(samples, curves)
  _finish(samples, f'{num:,} ancestral samples: first z, then x', 'x')
  top = max(marginal.get_ylim()[1], samples.get_ylim()[1])
  for panel in (marginal, samples):
    panel.set_ylim(0, top)
  return figure


def _em_figure(key: jax.Array) -> Figure:
  """The mixture at some steps of EM, and its likelihood at all of them."""
  _, x = _sample_mixture(_TRUTH, key, _NUM_EM_DATA)
  path, likelihoods = _fit(_EM_START, x, _EM_STEPS[-1])
  path, likelihoods = jax.device_get((path, likelihoods))
  truth = float(_fit(_TRUTH, x, 0)[1][0])
  figure = _figure(13, 5.4)
  rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.05))
  columns = rows[0].subgridspec(1, len(_EM_STEPS))
  panels = columns.subplots(sharey=True)
  for panel, step in zip(panels, _EM_STEPS, strict=True):
    panel.hist(
      x,
      bins=40,
      range=_MIXTURE_LIMITS,
      density=True,
      color=_GREY,
      alpha=0.35,
      label='data',
    )
    _draw_mixture(panel, Mixture(*(a[step] for a in path)), is_filled=False)
    title = 'Start' if step == 0 else f'Step {step}'
    _finish(panel, title, 'x', 'density' if step == 0 else '')
  panels[0].legend(frameon=False, fontsize=9, loc='upper right')

  panel = figure.add_subplot(rows[1])
  panel.axhline(truth, color=_GREY, linestyle='--', linewidth=1.2)
  panel.text(
    0, truth, 'of the mixture that drew the data', color='#666666', va='bottom'
  )
  panel.plot(likelihoods, color=_COLOURS[0], linewidth=1.8)
  panel.plot(_EM_STEPS, likelihoods[list(_EM_STEPS)], 'o', color=_COLOURS[0])
  # The first step gains so much that the others would look flat beside it.
  bottom = 1.2 * likelihoods[1] - 0.2 * likelihoods[-1]
  panel.set_ylim(bottom, likelihoods[-1] + 0.01)
  start = _with_true_minus(f' from {likelihoods[0]:.2f}')
  panel.text(1, bottom, start, color='#666666', va='bottom')
  panel.margins(x=0.01)
  _finish(
    panel,
    'Mean log-likelihood: no step lowers it',
    'step of EM',
    'nats per example',
  )
  return figure


def _draw_marginal(panel: Axes):
  """Pr(x) as a heat map; returns what a colour bar needs."""
  axes = [
    np.linspace(low, high, num, dtype=np.float32)
    for (low, high), num in zip(_X_LIMITS, (121, 161), strict=True)
  ]
  x = np.stack(np.meshgrid(*axes), axis=-1)  # [161, 121, 2]
  log_densities = _log_marginal(_MODEL, x.reshape(-1, 2))
  densities = np.exp(log_densities).reshape(x.shape[:2])
  image = panel.imshow(
    densities,
    origin='lower',
    extent=[*_X_LIMITS[0], *_X_LIMITS[1]],
    cmap='Blues',
    interpolation='bicubic',
    vmin=0,
  )
  return image


def _finish_plane(panel: Axes, title: str) -> None:
  panel.set_xlim(_X_LIMITS[0])
  panel.set_ylim(_X_LIMITS[1])
  panel.set_aspect('equal')
  _finish(panel, title, '$x_1$', '$x_2$')


def _place(x: np.ndarray) -> str:
  """An x by its coordinates."""
  return _with_true_minus(f'x* = ({x[0]:g}, {x[1]:g})')


def _curve() -> tuple[np.ndarray, np.ndarray]:
  """Latents [P, 1] over the drawn range and f of them [P, 2]."""
  z = np.linspace(*_Z_LIMITS, 601, dtype=np.float32)[:, None]
  return z, np.asarray(_decode(z))


def _nonlinear_figure(key: jax.Array) -> Figure:
  """Prior, likelihood, marginal and samples of the nonlinear model."""
  z, decoded = _curve()
  colours = Normalize(*_Z_LIMITS)
  figure = _figure(13.5, 3.9)
  prior, likelihood, marginal, samples = figure.subplots(1, 4)
  density = _bell(z[:, 0], 0, 1)
  cmap = matplotlib.colormaps[_LATENT_COLOURS]
  prior.vlines(z[:, 0], 0, density, colors=cmap(colours(z[:, 0])), lw=1.5)
  prior.plot(z[:, 0], density, color=_INK, linewidth=1.8)
  prior.set_ylim(0)
  prior.set_box_aspect(4 / 3)
  _finish(prior, 'Prior', 'z', 'Pr(z)')

  likelihood.add_collection(
    LineCollection(
      np.stack([decoded[:-1], decoded[1:]], axis=1),
      colors=cmap(colours(z[:-1, 0])),
      linewidth=2,
    )
  )
  for latent, centre in zip(z[::50, 0], decoded[::50], strict=True):
    colour = cmap(colours(latent))
    likelihood.plot(*centre, 'o', color=colour, markersize=5)
    likelihood.add_patch(
      Circle(centre, _MODEL.deviation, color=colour, alpha=0.25, lw=0)
    )
  _finish_plane(likelihood, 'Likelihood: f[z] and σ around it')

  image = _draw_marginal(marginal)
  _finish_plane(marginal, 'Marginal Pr(x)')
  figure.colorbar(image, ax=marginal, shrink=0.7, label='density')

  drawn_z, x = map(np.asarray, _sample(_MODEL, key, 1_000))
  points = samples.scatter(
    *x.T, s=7, c=drawn_z[:, 0], cmap=_LATENT_COLOURS, norm=colours, lw=0
  )
  _finish_plane(samples, f'{len(x):,} ancestral samples')
  figure.colorbar(points, ax=samples, shrink=0.7, label='z')
  return figure


def _posterior_figure(key: jax.Array) -> Figure:
  """The marginal, and the posterior at some places of it."""
  del key  # nothing is drawn at random
  x = np.float32([[0.9, -0.9], [0.25, 0.95], [1.3, 0.2], [0.6, 0.0]])
  grid, densities = jax.device_get(_posterior(_MODEL, x))
  z = grid.points[:, 0]
  figure = _figure(10, 5.6)
  left, right = figure.add_gridspec(1, 2, width_ratios=(1, 1.15))
  panel = figure.add_subplot(left)
  _draw_marginal(panel)
  panel.plot(*_curve()[1].T, color=_INK, linewidth=0.8, alpha=0.5)
  for place, colour in zip(x, _COLOURS, strict=True):
    panel.plot(
      *place,
      'o',
      color=colour,
      markersize=10,
      markeredgecolor='white',
      markeredgewidth=1.5,
    )
  _finish_plane(panel, 'Marginal Pr(x) with the curve f[z]')

  panels = right.subgridspec(len(x), 1).subplots(sharex=True)
  for panel, place, density, colour in zip(
    panels, x, densities, _COLOURS, strict=True
  ):
    panel.plot(z, _bell(z, 0, 1), color=_GREY, linewidth=1.2)
    panel.plot(z, density, color=colour, linewidth=1.8)
    panel.fill_between(z, density, color=colour, alpha=0.25, lw=0)
    panel.set_xlim(_Z_LIMITS)
    panel.set_ylim(0)
    panel.text(
      0.02, 0.85, _place(place), color=colour, transform=panel.transAxes
    )
    panel.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    _finish(panel, '', '', 'density')
  panels[0].set_title('Posterior Pr(z|x*), and the prior in grey', fontsize=11)
  panels[-1].set_xlabel('z')
  return figure


def _bounds(means: np.ndarray, deviations: np.ndarray) -> np.ndarray:
  """The ELBO at _ELBO_X for Gaussian q with the broadcast means and widths."""
  means, deviations = np.broadcast_arrays(means, deviations)
  x = np.broadcast_to(_ELBO_X, (means.size, 2))
  log_vars = 2 * np.log(deviations.reshape(-1, 1))
  bounds = _elbo(_MODEL, x, means.reshape(-1, 1), log_vars)
  return np.asarray(bounds).reshape(means.shape)


def _draw_bound(
  panel: Axes, values: np.ndarray, bounds: np.ndarray, evidence: float
) -> None:
  """The ELBO along an axis, under log Pr(x*)."""
  panel.axhline(evidence, color=_INK, linewidth=1.6)
  panel.fill_between(values, bounds, evidence, color=_GREY, alpha=0.3, lw=0)
  panel.plot(values, bounds, color=_INK, linewidth=1.2)
  panel.set_xlim(values[0], values[-1])
  panel.set_ylim(evidence - 12, evidence + 1.5)


def _elbo_figure(key: jax.Array) -> Figure:
  """The gap between the ELBO and log Pr(x*) as a Gaussian q changes."""
  del key  # nothing is drawn at random
  evidence = float(_log_marginal(_MODEL, _ELBO_X[None])[0])
  means = np.linspace(-2.2, 0.8, 151, dtype=np.float32)
  deviations = np.geomspace(0.02, 0.6, 41, dtype=np.float32)
  bounds = _bounds(means[:, None], deviations[None, :])
  i, j = np.unravel_index(np.argmax(bounds), bounds.shape)
  other = np.argmax(np.where(means < -1, bounds[:, j], -np.inf))
  wider = np.argmin(np.abs(deviations - 3 * deviations[j]))

  figure = _figure(13, 4)
  shapes, moves, widths = figure.subplots(1, 3)
  grid, densities = jax.device_get(_posterior(_MODEL, _ELBO_X[None]))
  shapes.fill_between(
    grid.points[:, 0],
    densities[0],
    color=_GREY,
    alpha=0.5,
    lw=0,
    label='Pr(z|x*)',
  )
  z = np.linspace(means[0], means[-1], 601)
  for name, mean, width, colour in (
    ('best', i, j, _COLOURS[0]),
    ('moved', other, j, _COLOURS[1]),
    ('widened', i, wider, _COLOURS[2]),
  ):
    bound = bounds[mean, width]
    label = f'q, {name}: gap {evidence - bound:.2f} nats'
    density = _bell(z, means[mean], deviations[width])
    shapes.plot(z, density, color=colour, linewidth=1.8, label=label)
    if width == j:
      moves.plot(means[mean], bound, 'o', color=colour, zorder=3)
    if mean == i:
      widths.plot(deviations[width], bound, 'o', color=colour, zorder=3)
  shapes.set_xlim(means[0], means[-1])
  shapes.set_ylim(0)
  shapes.legend(frameon=False, loc='upper center', fontsize=9, handlelength=1.2)
  _finish(shapes, f'Posterior at {_place(_ELBO_X)} and q', 'z', 'density')

  _draw_bound(moves, means, bounds[:, j], evidence)
  moves.text(-0.7, evidence + 0.2, 'log Pr(x*)', ha='center')
  moves.text(-0.7, evidence - 5, 'gap =\nKL[q(z|x*) || Pr(z|x*)]', ha='center')
  moves.text(0.12, evidence - 9, 'ELBO')
  title = f'ELBO as q moves (deviation {deviations[j]:.2f})'
  _finish(moves, title, 'mean of q', 'nats')
  _draw_bound(widths, deviations, bounds[i], evidence)
  widths.set_xscale('log')
  ticks = (0.02, 0.05, 0.1, 0.2, 0.5)
  widths.set_xticks(ticks, map(str, ticks))
  widths.minorticks_off()
  title = f'ELBO as q widens (mean {means[i]:.2f})'
  _finish(widths, title, 'deviation of q', 'nats')
  return figure


# The files, in the order of the book.
FIGURES: dict[str, Callable[[jax.Array], Figure]] = {
  'mixture.png': _mixture_figure,
  'expectation_maximisation.png': _em_figure,
  'nonlinear.png': _nonlinear_figure,
  'posterior.png': _posterior_figure,
  'elbo.png': _elbo_figure,
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
