"""Pictures of a nonlinear latent variable model and its ELBO (UDL 17.2-4)."""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import jax
import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
import numpy as np

from common_flax.cli.plotting import bell
from common_flax.cli.plotting import COLOURS
from common_flax.cli.plotting import create_figure
from common_flax.cli.plotting import finish
from common_flax.cli.plotting import GREY
from common_flax.cli.plotting import INK
from common_flax.cli.plotting import with_true_minus
from vae_flax import nonlinear

_LATENT_CMAP = 'viridis'
# Posterior deviations are at least 0.03, so a spacing of 0.02 is fine enough.
_MODEL = dataclasses.replace(nonlinear.BOOK_MODEL, num_points=801)
_X_LIMITS = ((-0.4, 2.0), (-1.6, 1.6))
_Z_LIMITS = (-3.0, 3.0)
_ELBO_X = np.float32([0.9, -0.9])

# Compiling each operation by itself takes far longer than the whole.
_decode = jax.jit(_MODEL.decode)
_sample = jax.jit(nonlinear.sample, static_argnames=('model', 'num'))
_log_marginal = jax.jit(nonlinear.log_marginal, static_argnames='model')
_posterior = jax.jit(nonlinear.posterior, static_argnames='model')
_elbo = jax.jit(nonlinear.elbo, static_argnames='model')


def _draw_marginal(panel: Axes) -> AxesImage:
  """Draws Pr(x) as a heat map."""
  axes = [
    np.linspace(low, high, num, dtype=np.float32)
    for (low, high), num in zip(_X_LIMITS, (121, 161), strict=True)
  ]
  x = np.stack(np.meshgrid(*axes), axis=-1)  # [161, 121, 2]
  log_densities = _log_marginal(_MODEL, x.reshape(-1, 2))
  densities = np.exp(log_densities).reshape(x.shape[:2])
  return panel.imshow(
    densities,
    origin='lower',
    extent=[*_X_LIMITS[0], *_X_LIMITS[1]],
    cmap='Blues',
    interpolation='bicubic',
    vmin=0,
  )


def _finish_plane(panel: Axes, title: str) -> None:
  panel.set_xlim(_X_LIMITS[0])
  panel.set_ylim(_X_LIMITS[1])
  panel.set_aspect('equal')
  finish(panel, title, '$x_1$', '$x_2$')


def _place(x: np.ndarray) -> str:
  """Labels an x by its coordinates."""
  return with_true_minus(f'x* = ({x[0]:g}, {x[1]:g})')


def _curve() -> tuple[np.ndarray, np.ndarray]:
  """Returns latents [P, 1] over the drawn range and f of them, [P, 2]."""
  z = np.linspace(*_Z_LIMITS, 601, dtype=np.float32)[:, None]
  return z, np.asarray(_decode(z))


def _draw_prior(panel: Axes, z: np.ndarray, colours: Normalize) -> None:
  """Draws Pr(z), coloured by z [P, 1]."""
  density = bell(z[:, 0], 0, 1)
  cmap = matplotlib.colormaps[_LATENT_CMAP]
  panel.vlines(z[:, 0], 0, density, colors=cmap(colours(z[:, 0])), lw=1.5)
  panel.plot(z[:, 0], density, color=INK, linewidth=1.8)
  panel.set_ylim(0)
  panel.set_box_aspect(4 / 3)
  finish(panel, 'Prior', 'z', 'Pr(z)')


def _draw_likelihood(
  panel: Axes, z: np.ndarray, decoded: np.ndarray, colours: Normalize
) -> None:
  """Draws the curve f[z], coloured by z, with discs of radius σ along it."""
  cmap = matplotlib.colormaps[_LATENT_CMAP]
  panel.add_collection(
    LineCollection(
      np.stack([decoded[:-1], decoded[1:]], axis=1),
      colors=cmap(colours(z[:-1, 0])),
      linewidth=2,
    )
  )
  for latent, centre in zip(z[::50, 0], decoded[::50], strict=True):
    colour = cmap(colours(latent))
    panel.plot(*centre, 'o', color=colour, markersize=5)
    panel.add_patch(
      Circle(centre, _MODEL.deviation, color=colour, alpha=0.25, lw=0)
    )
  _finish_plane(panel, 'Likelihood: f[z] and σ around it')


def nonlinear_figure(key: jax.Array) -> Figure:
  """Shows prior, likelihood, marginal and samples of the nonlinear model."""
  z, decoded = _curve()
  colours = Normalize(*_Z_LIMITS)
  figure = create_figure(13.5, 3.9)
  prior, likelihood, marginal, samples = figure.subplots(1, 4)
  _draw_prior(prior, z, colours)
  _draw_likelihood(likelihood, z, decoded, colours)

  image = _draw_marginal(marginal)
  _finish_plane(marginal, 'Marginal Pr(x)')
  figure.colorbar(image, ax=marginal, shrink=0.7, label='density')

  drawn_z, x = map(np.asarray, _sample(_MODEL, key, 1_000))
  points = samples.scatter(
    *x.T, s=7, c=drawn_z[:, 0], cmap=_LATENT_CMAP, norm=colours, lw=0
  )
  _finish_plane(samples, f'{len(x):,} ancestral samples')
  figure.colorbar(points, ax=samples, shrink=0.7, label='z')
  return figure


def _draw_posterior(
  panel: Axes, x: np.ndarray, z: np.ndarray, density: np.ndarray, colour: str
) -> None:
  """Draws the density of Pr(z|x) at z [P], over the prior in grey."""
  panel.plot(z, bell(z, 0, 1), color=GREY, linewidth=1.2)
  panel.plot(z, density, color=colour, linewidth=1.8)
  panel.fill_between(z, density, color=colour, alpha=0.25, lw=0)
  panel.set_xlim(_Z_LIMITS)
  panel.set_ylim(0)
  panel.text(0.02, 0.85, _place(x), color=colour, transform=panel.transAxes)
  panel.yaxis.set_major_locator(MaxNLocator(3, integer=True))
  finish(panel, '', '', 'density')


def posterior_figure(key: jax.Array) -> Figure:
  """Shows the marginal, and the posterior at four values of x."""
  del key  # nothing here is random
  x = np.float32([[0.9, -0.9], [0.25, 0.95], [1.3, 0.2], [0.6, 0.0]])
  grid, densities = jax.device_get(_posterior(_MODEL, x))
  figure = create_figure(10, 5.6)
  left, right = figure.add_gridspec(1, 2, width_ratios=(1, 1.15))
  panel = figure.add_subplot(left)
  _draw_marginal(panel)
  panel.plot(*_curve()[1].T, color=INK, linewidth=0.8, alpha=0.5)
  for place, colour in zip(x, COLOURS, strict=True):
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
    panels, x, densities, COLOURS, strict=True
  ):
    _draw_posterior(panel, place, grid.points[:, 0], density, colour)
  panels[0].set_title('Posterior Pr(z|x*), and the prior in grey', fontsize=11)
  panels[-1].set_xlabel('z')
  return figure


@dataclasses.dataclass(frozen=True)
class _Bounds:
  """The ELBO at _ELBO_X over a grid of Gaussian q, and its maximum.

  Dimensions: M means, S standard deviations.
  """

  means: np.ndarray  # [M]
  deviations: np.ndarray  # [S]
  nats: np.ndarray  # [M, S]
  evidence: float  # log Pr(x*) in nats
  best_mean: int  # indices of the maximum
  best_deviation: int


def _bounds() -> _Bounds:
  means = np.linspace(-2.2, 0.8, 151, dtype=np.float32)
  deviations = np.geomspace(0.02, 0.6, 41, dtype=np.float32)
  shape = (len(means), len(deviations))
  grid = np.broadcast_arrays(means[:, None], deviations[None, :])
  flat_means, flat_deviations = (axis.reshape(-1, 1) for axis in grid)
  x = np.broadcast_to(_ELBO_X, (len(flat_means), 2))
  nats = _elbo(_MODEL, x, flat_means, 2 * np.log(flat_deviations))
  nats = np.asarray(nats).reshape(shape)
  evidence = float(_log_marginal(_MODEL, _ELBO_X[None])[0])
  best_mean, best_deviation = np.unravel_index(np.argmax(nats), shape)
  return _Bounds(means, deviations, nats, evidence, best_mean, best_deviation)


class _Example(NamedTuple):
  """One q: its name, its indices in _Bounds, and its colour."""

  name: str
  mean: int
  deviation: int
  colour: str


def _examples(bounds: _Bounds) -> list[_Example]:
  """Returns the best q, one at another mode of the posterior, a wider one."""
  i, j = bounds.best_mean, bounds.best_deviation
  is_other_mode = bounds.means < -1
  other = np.argmax(np.where(is_other_mode, bounds.nats[:, j], -np.inf))
  wider = np.argmin(np.abs(bounds.deviations - 3 * bounds.deviations[j]))
  return [
    _Example('best', i, j, COLOURS[0]),
    _Example('moved', other, j, COLOURS[1]),
    _Example('widened', i, wider, COLOURS[2]),
  ]


def _draw_shapes(
  panel: Axes, bounds: _Bounds, examples: Sequence[_Example]
) -> None:
  """Draws the posterior and three q."""
  grid, densities = jax.device_get(_posterior(_MODEL, _ELBO_X[None]))
  panel.fill_between(
    grid.points[:, 0],
    densities[0],
    color=GREY,
    alpha=0.5,
    lw=0,
    label='Pr(z|x*)',
  )
  first, last = bounds.means[[0, -1]]
  z = np.linspace(first, last, 601)
  for name, i, j, colour in examples:
    label = f'q, {name}: gap {bounds.evidence - bounds.nats[i, j]:.2f} nats'
    density = bell(z, bounds.means[i], bounds.deviations[j])
    panel.plot(z, density, color=colour, linewidth=1.8, label=label)
  panel.set_xlim(first, last)
  panel.set_ylim(0)
  panel.legend(frameon=False, loc='upper center', fontsize=9, handlelength=1.2)
  finish(panel, f'Posterior at {_place(_ELBO_X)} and q', 'z', 'density')


def _draw_bound(
  panel: Axes, values: np.ndarray, bounds: np.ndarray, evidence: float
) -> None:
  """Draws the ELBO along an axis, and log Pr(x*) above it."""
  panel.axhline(evidence, color=INK, linewidth=1.6)
  panel.fill_between(values, bounds, evidence, color=GREY, alpha=0.3, lw=0)
  panel.plot(values, bounds, color=INK, linewidth=1.2)
  panel.set_xlim(values[0], values[-1])
  panel.set_ylim(evidence - 12, evidence + 1.5)


def _draw_moves(
  panel: Axes, bounds: _Bounds, examples: Sequence[_Example]
) -> None:
  """Draws the ELBO against the mean of q."""
  best, evidence = bounds.best_deviation, bounds.evidence
  for _, i, j, colour in examples:
    if j == best:
      mean = bounds.means[i]
      panel.plot(mean, bounds.nats[i, j], 'o', color=colour, zorder=3)
  _draw_bound(panel, bounds.means, bounds.nats[:, best], evidence)
  panel.text(-0.7, evidence + 0.2, 'log Pr(x*)', ha='center')
  panel.text(-0.7, evidence - 5, 'gap =\nKL[q(z|x*) || Pr(z|x*)]', ha='center')
  panel.text(0.12, evidence - 9, 'ELBO')
  title = f'ELBO as q moves (deviation {bounds.deviations[best]:.2f})'
  finish(panel, title, 'mean of q', 'nats')


def _draw_widths(
  panel: Axes, bounds: _Bounds, examples: Sequence[_Example]
) -> None:
  """Draws the ELBO against the deviation of q."""
  best = bounds.best_mean
  for _, i, j, colour in examples:
    if i == best:
      deviation = bounds.deviations[j]
      panel.plot(deviation, bounds.nats[i, j], 'o', color=colour, zorder=3)
  _draw_bound(panel, bounds.deviations, bounds.nats[best], bounds.evidence)
  panel.set_xscale('log')
  ticks = (0.02, 0.05, 0.1, 0.2, 0.5)
  panel.set_xticks(ticks, map(str, ticks))
  panel.minorticks_off()
  title = f'ELBO as q widens (mean {bounds.means[best]:.2f})'
  finish(panel, title, 'deviation of q', 'nats')


def elbo_figure(key: jax.Array) -> Figure:
  """Shows the gap between the ELBO and log Pr(x*) as a Gaussian q changes."""
  del key  # nothing here is random
  bounds = _bounds()
  examples = _examples(bounds)
  figure = create_figure(13, 4)
  shapes, moves, widths = figure.subplots(1, 3)
  _draw_shapes(shapes, bounds, examples)
  _draw_moves(moves, bounds, examples)
  _draw_widths(widths, bounds, examples)
  return figure
