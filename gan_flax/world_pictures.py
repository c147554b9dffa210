"""Pictures of toy worlds: modes, samples, what a discriminator thinks.

Dimensions: N samples, S side of the picture in pixels.
"""

from collections.abc import Callable

import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw

from common_flax.data.worlds import World

_SIZE = 256  # pixels
_MARGIN = 1.4  # how far the picture reaches, in extents of the world
_SUPERSAMPLING = 3  # as Pillow draws without antialiasing
_SURFACE_SIZE = 64  # places a side at which the surface is computed
_COLOURS = matplotlib.colormaps['RdBu']  # from generated to real
_NUM_LEVELS = 11  # of the surface, which is drawn in steps
_SAMPLE_COLOUR = (20, 20, 20)
_MODE_COLOUR = (0, 150, 60)

Surface = Callable[[np.ndarray], np.ndarray]  # points [N, 2] -> [N]


def picture(
  world: World,
  points: np.ndarray,
  surface: Surface | None = None,
  is_probability: bool = True,
) -> np.ndarray:
  """Draws samples over the modes of a world.

  Args:
    world: its modes become green circles of three standard deviations, but
      never so small that they cannot be seen.
    points: [N, 2] samples, as dots.
    surface: what a discriminator thinks of points, from red, generated, to
      blue, real; none for white.
    is_probability: whether it is in [0, 1]; else colours span its range.

  Returns:
    uint8 [S, S, 3], the second coordinate upwards.
  """
  limit = _MARGIN * world.extent
  size = _SIZE * _SUPERSAMPLING
  image = _background(surface, limit, is_probability, size)
  draw = PIL.ImageDraw.Draw(image)
  scale = size / (2 * limit)

  def place(point: np.ndarray) -> tuple[float, float]:
    return (point[0] + limit) * scale, (limit - point[1]) * scale

  for point in points:
    if np.isfinite(point).all() and np.abs(point).max() < limit:
      draw.circle(place(point), 1.2 * _SUPERSAMPLING, fill=_SAMPLE_COLOUR)
  radius = max(3 * world.deviation * scale, 5 * _SUPERSAMPLING)
  for centre in world.centres:
    draw.circle(
      place(centre), radius, outline=_MODE_COLOUR, width=_SUPERSAMPLING
    )
  return np.asarray(image.resize((_SIZE, _SIZE), PIL.Image.Resampling.BOX))


def _background(
  surface: Surface | None, limit: float, is_probability: bool, size: int
) -> PIL.Image.Image:
  """The surface as colours, a few of them, so that files stay small."""
  if surface is None:
    return PIL.Image.new('RGB', (size, size), 'white')
  places = (np.arange(_SURFACE_SIZE) + 0.5) / _SURFACE_SIZE * 2 - 1
  x, y = np.meshgrid(limit * places, -limit * places)
  points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
  values = np.asarray(surface(points), np.float64)
  values = np.where(np.isfinite(values), values, 0)
  if not is_probability:
    values = values - values.min()
    values = values / max(values.max(), np.finfo(np.float64).tiny)
  values = values.astype(np.float32)
  coarse = PIL.Image.fromarray(values.reshape(_SURFACE_SIZE, _SURFACE_SIZE))
  fine = np.asarray(coarse.resize((size, size), PIL.Image.Resampling.BICUBIC))
  levels = np.clip(np.round(fine * (_NUM_LEVELS - 1)), 0, _NUM_LEVELS - 1)
  # Pale, so that dots and circles stand out.
  colours = 0.5 + 0.5 * _COLOURS(np.linspace(0, 1, _NUM_LEVELS))[:, :3]
  palette = np.round(255 * colours).astype(np.uint8)
  return PIL.Image.fromarray(palette[levels.astype(int)])
