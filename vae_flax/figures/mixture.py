"""Pictures of a mixture of Gaussians and its fit by EM (UDL 17.1)."""

import jax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from common_flax.cli.plotting import COLOURS
from common_flax.cli.plotting import create_figure
from common_flax.cli.plotting import finish
from common_flax.cli.plotting import GREY
from common_flax.cli.plotting import INK
from common_flax.cli.plotting import with_true_minus
from vae_flax import mixture as mixture_lib
from vae_flax.mixture import Mixture

_TRUTH = Mixture(
  weights=np.float32([0.25, 0.45, 0.3]),
  means=np.float32([-2.5, 0.4, 3.0]),
  variances=np.float32([0.36, 0.64, 1.0]),
)
# The means start too close together, so that EM has to separate them.
_EM_START = Mixture(
  weights=np.float32([1, 1, 1]) / np.float32(3),
  means=np.float32([-1.0, 0.0, 1.0]),
  variances=np.float32([1.0, 1.0, 1.0]),
)
_EM_STEPS = (0, 1, 4, 8, 60)
_NUM_EM_DATA = 500
_MIXTURE_LIMITS = (-5.5, 6.5)
_MIXTURE_POINTS = np.linspace(*_MIXTURE_LIMITS, 400, dtype=np.float32)

# Compiling each operation by itself takes far longer than the whole.
_component_log_densities = jax.jit(mixture_lib.component_log_densities)
_fit = jax.jit(mixture_lib.fit, static_argnames='num_steps')
_sample_mixture = jax.jit(mixture_lib.sample, static_argnames='num')


def _weighted_components(mixture: Mixture) -> np.ndarray:
  """Computes λ_n N(x; μ_n, σ²_n) at _MIXTURE_POINTS, [400, N]."""
  log_densities = _component_log_densities(mixture, _MIXTURE_POINTS)
  return mixture.weights * np.exp(log_densities)


def _draw_mixture(panel: Axes, mixture: Mixture, is_filled: bool) -> None:
  """Draws the weighted components in colours, and their sum."""
  components = _weighted_components(mixture)
  for component, colour in zip(components.T, COLOURS, strict=False):
    if is_filled:
      panel.fill_between(
        _MIXTURE_POINTS, component, color=colour, alpha=0.25, lw=0
      )
    panel.plot(_MIXTURE_POINTS, component, color=colour, linewidth=1.6)
  _draw_density(panel, components)


def _draw_density(panel: Axes, components: np.ndarray) -> None:
  """Draws Pr(x), the sum of the weighted components [400, N]."""
  density = components.sum(axis=1)
  panel.plot(_MIXTURE_POINTS, density, color=INK, linewidth=1.8, label='Pr(x)')
  panel.set_xlim(_MIXTURE_LIMITS)
  panel.set_xticks(range(-4, 7, 2))


def mixture_figure(key: jax.Array) -> Figure:
  """Shows the prior, the marginal with its components, and samples."""
  num = 5_000
  components, x = map(np.asarray, _sample_mixture(_TRUTH, key, num))
  figure = create_figure(11, 3.4)
  prior, marginal, samples = figure.subplots(1, 3, width_ratios=(1, 2, 2))
  names = range(1, len(_TRUTH.weights) + 1)
  colours = COLOURS[: len(_TRUTH.weights)]
  prior.bar(names, _TRUTH.weights, color=colours, width=0.6)
  prior.set_xticks(names)
  finish(prior, 'Prior', 'component z', 'Pr(z = n) = $λ_n$')

  _draw_mixture(marginal, _TRUTH, is_filled=True)
  curves = _weighted_components(_TRUTH)
  for n, mean, peak, colour in zip(
    names, _TRUTH.means, curves.max(axis=0), colours, strict=True
  ):
    marginal.text(mean, 0.3 * peak, f'z = {n}', color=colour, ha='center')
  marginal.legend(frameon=False)
  finish(marginal, 'Marginal, the sum of the components', 'x', 'density')

  parts = [x[components == i] for i in range(len(colours))]
  bins = np.linspace(*_MIXTURE_LIMITS, 49)
  share = 1 / (num * (bins[1] - bins[0]))  # density of one sample in a bin
  weights = [np.full(len(part), share) for part in parts]
  samples.hist(
    parts, bins, weights=weights, stacked=True, color=colours, alpha=0.75
  )
  _draw_density(samples, curves)
  finish(samples, f'{num:,} ancestral samples: first z, then x', 'x')
  top = max(marginal.get_ylim()[1], samples.get_ylim()[1])
  for panel in (marginal, samples):
    panel.set_ylim(0, top)
  return figure


def em_figure(key: jax.Array) -> Figure:
  """Shows the mixture at some steps of EM, and the likelihood at all."""
  _, x = _sample_mixture(_TRUTH, key, _NUM_EM_DATA)
  path, likelihoods = _fit(_EM_START, x, _EM_STEPS[-1])
  path, likelihoods = jax.device_get((path, likelihoods))
  truth = float(_fit(_TRUTH, x, 0)[1][0])
  figure = create_figure(13, 5.4)
  rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.05))
  columns = rows[0].subgridspec(1, len(_EM_STEPS))
  panels = columns.subplots(sharey=True)
  for panel, step in zip(panels, _EM_STEPS, strict=True):
    panel.hist(
      x,
      bins=40,
      range=_MIXTURE_LIMITS,
      density=True,
      color=GREY,
      alpha=0.35,
      label='data',
    )
    _draw_mixture(panel, Mixture(*(a[step] for a in path)), is_filled=False)
    title = 'Start' if step == 0 else f'Step {step}'
    finish(panel, title, 'x', 'density' if step == 0 else '')
  panels[0].legend(frameon=False, fontsize=9, loc='upper right')

  panel = figure.add_subplot(rows[1])
  panel.axhline(truth, color=GREY, linestyle='--', linewidth=1.2)
  panel.text(
    0, truth, 'of the mixture that drew the data', color='#666666', va='bottom'
  )
  panel.plot(likelihoods, color=COLOURS[0], linewidth=1.8)
  panel.plot(_EM_STEPS, likelihoods[list(_EM_STEPS)], 'o', color=COLOURS[0])
  # The first step gains so much that the rest of the curve would look flat.
  bottom = 1.2 * likelihoods[1] - 0.2 * likelihoods[-1]
  panel.set_ylim(bottom, likelihoods[-1] + 0.01)
  start = with_true_minus(f' from {likelihoods[0]:.2f}')
  panel.text(1, bottom, start, color='#666666', va='bottom')
  panel.margins(x=0.01)
  finish(
    panel,
    'Mean log-likelihood: no step lowers it',
    'step of EM',
    'nats per example',
  )
  return figure
