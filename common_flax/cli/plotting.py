"""Style and helpers shared by figures."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from common_flax import files

_DPI = 150
_MAX_TEXT = 60
INK = '#222222'
GREY = '#9a9a9a'
COLOURS = ('#3b75af', '#e1812c', '#3a923a', '#b13c6c')


def create_figure(width: float, height: float) -> Figure:
  """An empty figure; width and height in inches."""
  figure = Figure(figsize=(width, height), dpi=_DPI, layout='constrained')
  figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
  return figure


def finish(panel: Axes, title: str, x_label: str, y_label: str = '') -> None:
  """Sets a panel's title and axis labels."""
  panel.set_title(title, fontsize=11)
  panel.set_xlabel(x_label)
  panel.set_ylabel(y_label)
  panel.spines[['top', 'right']].set_visible(False)


def plain(text: str) -> str:
  """Makes untrusted text safe to draw: one short line without formulas."""
  text = files.one_line(text)
  if len(text) > _MAX_TEXT:
    text = f'{text[: _MAX_TEXT - 3]}...'
  return text.replace('$', r'\$')


def with_true_minus(number: str) -> str:
  """Replaces the hyphen of a number by the minus sign of axis labels."""
  return number.replace('-', '−')


def bell(points: np.ndarray, mean: float, deviation: float) -> np.ndarray:
  """The density of a Gaussian at `points`."""
  squares = ((points - mean) / deviation) ** 2
  return np.exp(-0.5 * squares) / (deviation * np.sqrt(2 * np.pi))
