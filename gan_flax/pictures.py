"""Pictures of samples: grids of images, points over the modes of a toy world.

Dimensions: N samples, H height, W width, C channels, S side of a picture in
pixels.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools

import jax
import matplotlib
from ml_collections import ConfigDict
import numpy as np
import PIL.Image
import PIL.ImageDraw

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import plotting
from common_flax.data.source import Source
from common_flax.data.worlds import World
from common_flax.data.worlds import WORLDS
from common_flax.workdir import classes
from gan_flax import batches
from gan_flax import generation
from gan_flax.gan import GAN
from gan_flax.state import GANState
from gan_flax.trained import Sampler

# Grids drawn in training.
_COLUMNS = 8
_NUM_ROWS = 8
_MAX_CLASSES = 10
_NUM_POINTS = 1000

_SIZE = 256  # pixels
_MARGIN = 1.4  # half a picture's side, in extents of the world
_SUPERSAMPLING = 3  # because Pillow draws without antialiasing
_SURFACE_SIZE = 64  # grid points per side of the surface
_COLOURS = matplotlib.colormaps['RdBu']  # from generated to real
_NUM_LEVELS = 11  # colours of the surface
_SAMPLE_COLOUR = (20, 20, 20)
_MODE_COLOUR = (0, 150, 60)

Surface = Callable[[np.ndarray], np.ndarray]  # points [N, 2] -> [N]


def drawing(
  gan: GAN, source: Source, config: ConfigDict
) -> Callable[[jax.Array, GANState], np.ndarray]:
  """The function that draws a GAN in training: (root, state) -> picture."""
  if gan.is_of_points:
    return functools.partial(draw_points, gan, WORLDS[config.dataset.name])
  return functools.partial(draw_images, gan, data.class_names(source))


def scoring(
  gan: GAN, config: ConfigDict
) -> Callable[[jax.Array, GANState, int], np.ndarray]:
  """The function that draws samples to score: (root, state, N) -> samples."""
  return functools.partial(draw_scored, config, gan)


def draw_images(
  gan: GAN, class_names: Sequence[str] | None, root: jax.Array, state: GANState
) -> np.ndarray:
  """Draws a grid of samples at fixed latents, uint8 [H, W, C].

  If the GAN is conditional, each row shows one class, and bears its name unless
  that is a number.
  """
  num_rows, labels = _NUM_ROWS, None
  if gan.is_conditional:
    num_rows = min(gan.num_classes, _MAX_CLASSES)
    labels = np.repeat(np.arange(num_rows), _COLUMNS)
  samples = _preview(gan, num_rows * _COLUMNS, labels, root, state)
  grid = images_lib.grid(samples, _COLUMNS)
  if labels is None or classes.are_numbers(class_names):
    return grid
  return plotting.name_rows(grid, class_names[:num_rows])


def draw_points(
  gan: GAN, world: World, root: jax.Array, state: GANState
) -> np.ndarray:
  """Draws samples at fixed latents over a world, uint8 [S, S, 3].

  The background shows the discriminator's output, unless the GAN is conditional
  and the output differs between classes.
  """
  labels = generation.class_by_number(gan, np.arange(_NUM_POINTS))
  points = _preview(gan, _NUM_POINTS, labels, root, state)
  if gan.is_conditional:
    return picture(world, points)
  opinion = functools.partial(
    generation.discriminator_output, gan, state.discriminator
  )
  return picture(world, points, opinion, gan.loss.is_classifier)


def _preview(
  gan: GAN,
  num: int,
  labels: np.ndarray | None,
  root: jax.Array,
  state: GANState,
) -> np.ndarray:
  """Samples of the averaged generator at fixed latents."""
  statistics = generation.fixed_statistics(
    gan, state.ema_params, prng.stream(root, 'statistics')
  )
  latents = batches.draw_latents(gan, prng.stream(root, 'preview'), num)
  return np.asarray(
    generation.generate(gan, state.ema_params, statistics, latents, labels)
  )


def draw_scored(
  config: ConfigDict, gan: GAN, root: jax.Array, state: GANState, num: int
) -> np.ndarray:
  """Draws samples to score in training, with all classes equally frequent.

  Returns:
    uint8 [num, H, W, C].
  """
  statistics = generation.fixed_statistics(
    gan, state.ema_params, prng.stream(root, 'statistics')
  )
  sampler = Sampler(
    gan, state.ema_params, statistics, config, config.seed, int(state.step)
  )
  labels = generation.class_by_number(gan, np.arange(num))
  key = prng.stream(root, 'evaluate')
  return np.asarray(sampler.generate(key, num, label=labels))


def picture(
  world: World,
  points: np.ndarray,
  surface: Surface | None = None,
  is_probability: bool = True,
) -> np.ndarray:
  """Draws samples over the modes of a world.

  Args:
    world: its modes are drawn as green circles with a radius of three standard
      deviations, at least 5 pixels.
    points: [N, 2] samples, drawn as dots.
    surface: a discriminator's output at points, coloured from red (generated)
      to blue (real); None for a white background.
    is_probability: whether the surface is in [0, 1]; otherwise the colours span
      its range.

  Returns:
    uint8 [S, S, 3] with the second coordinate pointing up.
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
  """Draws the surface in a few colours, which keeps files small."""
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
