"""Pictures of a nonlinear latent variable model and its bound (UDL 17.2-4)."""

import dataclasses

import jax
import matplotlib
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
import numpy as np

from common_flax.figures import bell
from common_flax.figures import COLOURS
from common_flax.figures import create_figure
from common_flax.figures import finish
from common_flax.figures import GREY
from common_flax.figures import INK
from common_flax.figures import with_true_minus
from vae_flax import nonlinear

_LATENT_CMAP = 'viridis'
# Posteriors here are no sharper than 0.03: spacing 0.02 leaves no error to see.
_MODEL = dataclasses.replace(nonlinear.BOOK_MODEL, num_points=801)
_X_LIMITS = ((-0.4, 2.0), (-1.6, 1.6))
_Z_LIMITS = (-3.0, 3.0)
_ELBO_X = np.float32([0.9, -0.9])

# Compiled whole: to compile their operations one by one takes far longer.
_decode = jax.jit(_MODEL.decode)
_sample = jax.jit(nonlinear.sample, static_argnames=('model', 'num'))
_log_marginal = jax.jit(nonlinear.log_marginal, static_argnames='model')
_posterior = jax.jit(nonlinear.posterior, static_argnames='model')
_elbo = jax.jit(nonlinear.elbo, static_argnames='model')


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
  finish(panel, title, '$x_1$', '$x_2$')


def _place(x: np.ndarray) -> str:
  """An x by its coordinates."""
  return with_true_minus(f'x* = ({x[0]:g}, {x[1]:g})')


def _curve() -> tuple[np.ndarray, np.ndarray]:
  """Latents [P, 1] over the drawn range and f of them [P, 2]."""
  z = np.linspace(*_Z_LIMITS, 601, dtype=np.float32)[:, None]
  return z, np.asarray(_decode(z))


def nonlinear_figure(key: jax.Array) -> Figure:
  """Prior, likelihood, marginal and samples of the nonlinear model."""
  z, decoded = _curve()
  colours = Normalize(*_Z_LIMITS)
  figure = create_figure(13.5, 3.9)
  prior, likelihood, marginal, samples = figure.subplots(1, 4)
  density = bell(z[:, 0], 0, 1)
  cmap = matplotlib.colormaps[_LATENT_CMAP]
  prior.vlines(z[:, 0], 0, density, colors=cmap(colours(z[:, 0])), lw=1.5)
  prior.plot(z[:, 0], density, color=INK, linewidth=1.8)
  prior.set_ylim(0)
  prior.set_box_aspect(4 / 3)
  finish(prior, 'Prior', 'z', 'Pr(z)')

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
    *x.T, s=7, c=drawn_z[:, 0], cmap=_LATENT_CMAP, norm=colours, lw=0
  )
  _finish_plane(samples, f'{len(x):,} ancestral samples')
  figure.colorbar(points, ax=samples, shrink=0.7, label='z')
  return figure


def posterior_figure(key: jax.Array) -> Figure:
  """The marginal, and the posterior at some places of it."""
  del key  # nothing is drawn at random
  x = np.float32([[0.9, -0.9], [0.25, 0.95], [1.3, 0.2], [0.6, 0.0]])
  grid, densities = jax.device_get(_posterior(_MODEL, x))
  z = grid.points[:, 0]
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
    panel.plot(z, bell(z, 0, 1), color=GREY, linewidth=1.2)
    panel.plot(z, density, color=colour, linewidth=1.8)
    panel.fill_between(z, density, color=colour, alpha=0.25, lw=0)
    panel.set_xlim(_Z_LIMITS)
    panel.set_ylim(0)
    panel.text(
      0.02, 0.85, _place(place), color=colour, transform=panel.transAxes
    )
    panel.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    finish(panel, '', '', 'density')
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
  panel.axhline(evidence, color=INK, linewidth=1.6)
  panel.fill_between(values, bounds, evidence, color=GREY, alpha=0.3, lw=0)
  panel.plot(values, bounds, color=INK, linewidth=1.2)
  panel.set_xlim(values[0], values[-1])
  panel.set_ylim(evidence - 12, evidence + 1.5)


def elbo_figure(key: jax.Array) -> Figure:
  """The gap between the ELBO and log Pr(x*) as a Gaussian q changes."""
  del key  # nothing is drawn at random
  evidence = float(_log_marginal(_MODEL, _ELBO_X[None])[0])
  means = np.linspace(-2.2, 0.8, 151, dtype=np.float32)
  deviations = np.geomspace(0.02, 0.6, 41, dtype=np.float32)
  bounds = _bounds(means[:, None], deviations[None, :])
  i, j = np.unravel_index(np.argmax(bounds), bounds.shape)
  other = np.argmax(np.where(means < -1, bounds[:, j], -np.inf))
  wider = np.argmin(np.abs(deviations - 3 * deviations[j]))

  figure = create_figure(13, 4)
  shapes, moves, widths = figure.subplots(1, 3)
  grid, densities = jax.device_get(_posterior(_MODEL, _ELBO_X[None]))
  shapes.fill_between(
    grid.points[:, 0],
    densities[0],
    color=GREY,
    alpha=0.5,
    lw=0,
    label='Pr(z|x*)',
  )
  z = np.linspace(means[0], means[-1], 601)
  for name, mean, width, colour in (
    ('best', i, j, COLOURS[0]),
    ('moved', other, j, COLOURS[1]),
    ('widened', i, wider, COLOURS[2]),
  ):
    bound = bounds[mean, width]
    label = f'q, {name}: gap {evidence - bound:.2f} nats'
    density = bell(z, means[mean], deviations[width])
    shapes.plot(z, density, color=colour, linewidth=1.8, label=label)
    if width == j:
      moves.plot(means[mean], bound, 'o', color=colour, zorder=3)
    if mean == i:
      widths.plot(deviations[width], bound, 'o', color=colour, zorder=3)
  shapes.set_xlim(means[0], means[-1])
  shapes.set_ylim(0)
  shapes.legend(frameon=False, loc='upper center', fontsize=9, handlelength=1.2)
  finish(shapes, f'Posterior at {_place(_ELBO_X)} and q', 'z', 'density')

  _draw_bound(moves, means, bounds[:, j], evidence)
  moves.text(-0.7, evidence + 0.2, 'log Pr(x*)', ha='center')
  moves.text(-0.7, evidence - 5, 'gap =\nKL[q(z|x*) || Pr(z|x*)]', ha='center')
  moves.text(0.12, evidence - 9, 'ELBO')
  title = f'ELBO as q moves (deviation {deviations[j]:.2f})'
  finish(moves, title, 'mean of q', 'nats')
  _draw_bound(widths, deviations, bounds[i], evidence)
  widths.set_xscale('log')
  ticks = (0.02, 0.05, 0.1, 0.2, 0.5)
  widths.set_xticks(ticks, map(str, ticks))
  widths.minorticks_off()
  title = f'ELBO as q widens (mean {means[i]:.2f})'
  finish(widths, title, 'deviation of q', 'nats')
  return figure
