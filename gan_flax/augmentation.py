"""Differentiable augmentation of what a discriminator sees (DiffAugment).

With few images a discriminator learns them by heart. Shown only distorted ones,
real and generated alike, it cannot; since the distortions are differentiable,
the generator still learns what undistorted images look like (Zhao et al. 2020,
arXiv:2006.10738).

Images are in [-1, 1]; what comes in from beyond their edges is mid-grey, 0.

Dimensions: B batch, H height, W width, C channels.
"""

import dataclasses

import jax
from jax import lax
import jax.numpy as jnp

from common_flax.sharding import drawn_globally

_TRANSLATION = 1 / 8  # of the image's side, at most
_CUTOUT = 1 / 2  # side of what is cut out


def _draw(
  key: jax.Array, images: jax.Array, axis_name: str | None
) -> jax.Array:
  """Numbers in [0, 1), one an image: [B, 1, 1, 1]."""
  return drawn_globally(
    lambda num: jax.random.uniform(key, (num, 1, 1, 1), images.dtype),
    len(images),
    axis_name,
  )


def color(
  key: jax.Array, images: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """Changes brightness by up to 0.5, saturation by up to 2, contrast by 1.5.

  Args:
    key: consumed.
    images: [B, H, W, C].
    axis_name: mapped axis over which the batch is split, if any.

  Returns:
    [B, H, W, C], not clipped.
  """
  keys = jax.random.split(key, 3)
  brightness, saturation, contrast = (_draw(k, images, axis_name) for k in keys)
  images = images + (brightness - 0.5)
  grey = images.mean(axis=3, keepdims=True)
  images = grey + 2 * saturation * (images - grey)
  mean = images.mean(axis=(1, 2, 3), keepdims=True)
  return mean + (0.5 + contrast) * (images - mean)


def translation(
  key: jax.Array, images: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """Moves images by whole pixels, up to an eighth of their sides."""
  row_key, column_key = jax.random.split(key)
  _, height, width, _ = images.shape
  tall, wide = round(height * _TRANSLATION), round(width * _TRANSLATION)
  rows = _places(_draw(row_key, images, axis_name), 2 * tall + 1)
  columns = _places(_draw(column_key, images, axis_name), 2 * wide + 1)
  padded = jnp.pad(images, ((0, 0), (tall, tall), (wide, wide), (0, 0)))
  crop = jax.vmap(
    lambda image, row, column: lax.dynamic_slice(
      image, (row, column, jnp.zeros_like(row)), images.shape[1:]
    )
  )
  return crop(padded, rows, columns)


def cutout(
  key: jax.Array, images: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """Greys out a rectangle of half the sides, at odd ones rounded up.

  Around a random place, so that it may reach beyond the edges.
  """
  row_key, column_key = jax.random.split(key)
  _, height, width, _ = images.shape
  hidden_rows = _hidden(_draw(row_key, images, axis_name), height)
  hidden_columns = _hidden(_draw(column_key, images, axis_name), width)
  is_hidden = hidden_rows[:, :, None, None] & hidden_columns[:, None, :, None]
  return jnp.where(is_hidden, 0, images)


def _places(draw: jax.Array, count: int) -> jax.Array:
  """[B, 1, 1, 1] in [0, 1) -> whole numbers below `count`, [B]."""
  return jnp.floor(draw[:, 0, 0, 0] * count).astype(jnp.int32)


def _hidden(draw: jax.Array, size: int) -> jax.Array:
  """Which places of a side are within a rectangle, [B, size]."""
  side = int(size * _CUTOUT + 0.5)
  # Of an even rectangle the middle lies between two places.
  centres = _places(draw, size + 1 - side % 2)
  places = jnp.arange(size)[None]
  start = centres[:, None] - side // 2
  return (places >= start) & (places < start + side)


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Which distortions a discriminator sees images through."""

  color: bool
  translation: bool
  cutout: bool

  def __call__(
    self, key: jax.Array, images: jax.Array, axis_name: str | None = None
  ) -> jax.Array:
    """[B, H, W, C] -> [B, H, W, C], each by itself; the key is consumed."""
    color_key, translation_key, cutout_key = jax.random.split(key, 3)
    if self.color:
      images = color(color_key, images, axis_name)
    if self.translation:
      images = translation(translation_key, images, axis_name)
    if self.cutout:
      images = cutout(cutout_key, images, axis_name)
    return images
