"""Style and helpers shared by figures."""

from collections.abc import Sequence
import math
import pathlib

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from common_flax import files

_DPI = 150
_MAX_TEXT = 60
_FONT = 'fonts/ttf/DejaVuSans.ttf'  # comes with Matplotlib, has many alphabets
_FONT_SIZES = (9, 24)  # pixels, least and most
_PAPER = 128  # the grey between the images of a grid
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
  return _short(text).replace('$', r'\$')


def _short(text: str) -> str:
  """Makes untrusted text one short line."""
  text = files.one_line(text)
  return f'{text[: _MAX_TEXT - 3]}...' if len(text) > _MAX_TEXT else text


def name_rows(
  grid: np.ndarray, names: Sequence[str], margin: int = 2
) -> np.ndarray:
  """Writes a name to the left of each row of a grid.

  Args:
    grid: uint8 [H, W, C] with C 1 or 3, from `images.grid`.
    names: one for each row, from the top.
    margin: pixels between rows.

  Returns:
    uint8 [H, W + width of the longest name, C].
  """
  height = (len(grid) - margin) / len(names)  # of a row
  least, most = _FONT_SIZES
  font = PIL.ImageFont.truetype(
    str(pathlib.Path(matplotlib.get_data_path(), _FONT)),
    min(most, max(least, round(height / 2))),
  )
  texts = [_short(name) for name in names]
  gap = 2 * margin
  width = math.ceil(max(map(font.getlength, texts))) + 2 * gap
  strip = PIL.Image.new('L', (width, len(grid)), _PAPER)
  draw = PIL.ImageDraw.Draw(strip)
  for row, text in enumerate(texts):
    middle = margin / 2 + (row + 0.5) * height
    draw.text((width - gap, middle), text, 255, font, anchor='rm')
  column = np.asarray(strip)[..., None].repeat(grid.shape[-1], axis=-1)
  return np.concatenate([column, grid], axis=1)


def with_true_minus(number: str) -> str:
  """Replaces the hyphen of a number by the minus sign of axis labels."""
  return number.replace('-', '−')


def bell(points: np.ndarray, mean: float, deviation: float) -> np.ndarray:
  """The density of a Gaussian at `points`."""
  squares = ((points - mean) / deviation) ** 2
  return np.exp(-0.5 * squares) / (deviation * np.sqrt(2 * np.pi))
