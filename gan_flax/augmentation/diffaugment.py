"""Differentiable augmentation of the discriminator's input (DiffAugment).

Given few images, a discriminator memorises them. DiffAugment distorts both real
and generated images, which prevents that. The distortions are differentiable,
so the generator still learns to draw undistorted images (Zhao et al. 2020,
arXiv:2006.10738).

Images are in [-1, 1] and padded with mid-grey, 0.

Dimensions: B batch, H height, W width, C channels.
"""

import dataclasses

import jax
from jax import lax
import jax.numpy as jnp

from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH

_TRANSLATION = 1 / 8  # largest shift, as a share of the side
_CUTOUT = 1 / 2  # side of the cutout, as a share of the image's


def _draw(key: jax.Array, images: jax.Array, axis: BatchAxis) -> jax.Array:
  """Draws one uniform number in [0, 1) per image: [B, 1, 1, 1]."""
  return axis.draw(
    lambda num: jax.random.uniform(key, (num, 1, 1, 1), images.dtype),
    len(images),
  )


def color(
  key: jax.Array, images: jax.Array, axis: BatchAxis = WHOLE_BATCH
) -> jax.Array:
  """Changes brightness, saturation and contrast at random.

  Adds up to ±0.5 to the brightness, and multiplies saturation by a factor in
  [0, 2) and contrast by one in [0.5, 1.5).

  Args:
    key: consumed.
    images: [B, H, W, C].
    axis: over which the batch is split.

  Returns:
    [B, H, W, C], not clipped.
  """
  keys = jax.random.split(key, 3)
  brightness, saturation, contrast = (_draw(k, images, axis) for k in keys)
  images = images + (brightness - 0.5)
  grey = images.mean(axis=3, keepdims=True)
  images = grey + 2 * saturation * (images - grey)
  mean = images.mean(axis=(1, 2, 3), keepdims=True)
  return mean + (0.5 + contrast) * (images - mean)


def translation(
  key: jax.Array, images: jax.Array, axis: BatchAxis = WHOLE_BATCH
) -> jax.Array:
  """Shifts images by whole pixels, up to an eighth of each side."""
  row_key, column_key = jax.random.split(key)
  _, height, width, _ = images.shape
  tall, wide = round(height * _TRANSLATION), round(width * _TRANSLATION)
  rows = _places(_draw(row_key, images, axis), 2 * tall + 1)
  columns = _places(_draw(column_key, images, axis), 2 * wide + 1)
  padded = jnp.pad(images, ((0, 0), (tall, tall), (wide, wide), (0, 0)))
  crop = jax.vmap(
    lambda image, row, column: lax.dynamic_slice(
      image, (row, column, jnp.zeros_like(row)), images.shape[1:]
    )
  )
  return crop(padded, rows, columns)


def cutout(
  key: jax.Array, images: jax.Array, axis: BatchAxis = WHOLE_BATCH
) -> jax.Array:
  """Greys out a rectangle with half of the image's sides, rounded up.

  Its centre is random, so the rectangle may extend beyond the edges.
  """
  row_key, column_key = jax.random.split(key)
  _, height, width, _ = images.shape
  hidden_rows = _hidden(_draw(row_key, images, axis), height)
  hidden_columns = _hidden(_draw(column_key, images, axis), width)
  is_hidden = hidden_rows[:, :, None, None] & hidden_columns[:, None, :, None]
  return jnp.where(is_hidden, 0, images)


def _places(draw: jax.Array, count: int) -> jax.Array:
  """Maps numbers in [0, 1), [B, 1, 1, 1], to integers below `count`, [B]."""
  return jnp.floor(draw[:, 0, 0, 0] * count).astype(jnp.int32)


def _hidden(draw: jax.Array, size: int) -> jax.Array:
  """Returns whether each row or column is in the rectangle, [B, size]."""
  side = int(size * _CUTOUT + 0.5)
  # The centre of a rectangle with an even side lies between two pixels.
  centres = _places(draw, size + 1 - side % 2)
  places = jnp.arange(size)[None]
  start = centres[:, None] - side // 2
  return (places >= start) & (places < start + side)


@dataclasses.dataclass(frozen=True)
class DiffAugment:
  """The distortions applied to every image that a discriminator sees."""

  color: bool
  translation: bool
  cutout: bool
  axis: BatchAxis = WHOLE_BATCH  # over which batches are split

  def __call__(
    self, key: jax.Array, images: jax.Array, adaptation: None = None
  ) -> jax.Array:
    """Distorts each of the images [B, H, W, C].

    Args:
      key: consumed.
      images: in [-1, 1].
      adaptation: none; these distortions do not adapt.
    """
    del adaptation
    color_key, translation_key, cutout_key = jax.random.split(key, 3)
    if self.color:
      images = color(color_key, images, self.axis)
    if self.translation:
      images = translation(translation_key, images, self.axis)
    if self.cutout:
      images = cutout(cutout_key, images, self.axis)
    return images
