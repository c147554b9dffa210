"""Random affine maps of images, each applied in a single resampling.

A map is a matrix that takes the coordinates of an output pixel to those of the
input pixel shown there. Coordinates are (x, y, 1) in pixels from the centre of
the image; x points right and y down. Maps compose from the left: `a @ b` is
first a's distortion of the image, then b's.

The distributions are those of Karras et al. (2020), arXiv:2006.06676, appendix
B. Their resampling is sharper: they double the resolution with a wavelet
filter, interpolate, and filter again on the way down. Ours interpolates
bilinearly at the image's own resolution, which blurs images that are moved by
fractions of a pixel. Real and generated images are blurred alike.

Dimensions: B batch, H height, W width, C channels.
"""

import math

import jax
from jax import lax
import jax.numpy as jnp

BLIT = 'blit'
GEOMETRY = 'geometry'

_SHIFT = 1 / 8  # largest whole shift, and deviation of the fractional one
_LOG_SCALE = 0.2 * math.log(2)  # standard deviation of log scales


def rotation(cosine: jax.Array, sine: jax.Array) -> jax.Array:
  """Turns images anticlockwise about their centre.

  Args:
    cosine: [B], of the angle.
    sine: [B], of the angle.

  Returns:
    [B, 3, 3].
  """
  zero, one = jnp.zeros_like(cosine), jnp.ones_like(cosine)
  return _rows([cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one])


def scaling(x: jax.Array, y: jax.Array) -> jax.Array:
  """Enlarges images by `x` and `y`, [B] each; -1 mirrors them. [B, 3, 3]."""
  zero, one = jnp.zeros_like(x), jnp.ones_like(x)
  return _rows([1 / x, zero, zero], [zero, 1 / y, zero], [zero, zero, one])


def translation(x: jax.Array, y: jax.Array) -> jax.Array:
  """Moves images by `x` pixels to the right and `y` down, [B]; [B, 3, 3]."""
  zero, one = jnp.zeros_like(x), jnp.ones_like(x)
  return _rows([one, zero, -x], [zero, one, -y], [zero, zero, one])


def _rows(*rows: list[jax.Array]) -> jax.Array:
  """The matrices [B, N, N] of entries [B]."""
  return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def sometimes(key: jax.Array, p: jax.Array, matrices: jax.Array) -> jax.Array:
  """Each of the matrices [B, N, N] with probability `p`, else the identity."""
  is_applied = jax.random.uniform(key, (len(matrices), 1, 1)) < p
  identity = jnp.eye(matrices.shape[-1], dtype=matrices.dtype)
  return jnp.where(is_applied, matrices, identity[None])


def compose(first: jax.Array, *others: jax.Array) -> jax.Array:
  """The product of matrices [B, N, N], in full precision on every device."""
  for other in others:
    first = jnp.matmul(first, other, precision='highest')
  return first


def draw_blits(
  key: jax.Array,
  num: int,
  p: jax.Array,
  shape: tuple[int, int],
  dtype: jnp.dtype,
) -> jax.Array:
  """Draws maps of pixels to pixels: mirroring, quarter turns, whole shifts.

  Each is applied with probability `p`. Images that are not square are not
  turned.

  Args:
    key: consumed.
    num: B.
    p: probability [].
    shape: (H, W).
    dtype: of the matrices.

  Returns:
    [B, 3, 3].
  """
  keys = jax.random.split(key, 6)
  height, width = shape
  one = jnp.ones(num, dtype)
  sign = 1 - 2 * jax.random.bernoulli(keys[0], 0.5, (num,)).astype(dtype)
  maps = [sometimes(keys[1], p, scaling(sign, one))]
  if height == width:
    turns = jax.random.randint(keys[2], (num,), 0, 4)
    # Exact, unlike the cosine of pi / 2.
    cosine, sine = jnp.array([[1, 0, -1, 0], [0, 1, 0, -1]], dtype)[:, turns]
    maps.append(sometimes(keys[3], p, rotation(cosine, sine)))
  share = jax.random.uniform(keys[4], (2, num), dtype, -_SHIFT, _SHIFT)
  moved = translation(jnp.round(share[0] * width), jnp.round(share[1] * height))
  return compose(*maps, sometimes(keys[5], p, moved))


def draw_maps(
  key: jax.Array,
  num: int,
  p: jax.Array,
  shape: tuple[int, int],
  dtype: jnp.dtype,
) -> jax.Array:
  """Draws scaling, rotation, stretching, and shifts by fractions of a pixel.

  Scaling, stretching and shifts are applied with probability `p`. A rotation
  comes before and after the stretching, each with probability
  1 - sqrt(1 - p), so that an image is turned with probability p.

  Args:
    key: consumed.
    num: B.
    p: probability [].
    shape: (H, W).
    dtype: of the matrices.

  Returns:
    [B, 3, 3].
  """
  keys = jax.random.split(key, 10)
  height, width = shape
  # A square root has no finite gradient at 0, and p is no variable.
  p_rotation = 1 - jnp.sqrt(1 - p)

  def turned(key, gate_key):
    angle = jax.random.uniform(key, (num,), dtype, -jnp.pi, jnp.pi)
    matrices = rotation(jnp.cos(angle), jnp.sin(angle))
    return sometimes(gate_key, p_rotation, matrices)

  size, stretch = jnp.exp(
    _LOG_SCALE * jax.random.normal(keys[0], (2, num), dtype)
  )
  shift = _SHIFT * jax.random.normal(keys[1], (2, num), dtype)
  return compose(
    sometimes(keys[2], p, scaling(size, size)),
    turned(keys[3], keys[4]),
    sometimes(keys[5], p, scaling(stretch, 1 / stretch)),
    turned(keys[6], keys[7]),
    sometimes(keys[8], p, translation(shift[0] * width, shift[1] * height)),
  )


def _reflected(places: jax.Array, size: int) -> jax.Array:
  """Places on an axis that continues as its mirror image, in [0, size - 1]."""
  period = 2 * (size - 1)
  places = jnp.mod(places, period)
  return jnp.minimum(places, period - places)


def _sources(maps: jax.Array, height: int, width: int) -> list[jax.Array]:
  """The row and the column [B, H, W] at which each pixel is interpolated."""
  y = (jnp.arange(height, dtype=maps.dtype) - (height - 1) / 2)[None, :, None]
  x = (jnp.arange(width, dtype=maps.dtype) - (width - 1) / 2)[None, None]
  entries = maps[:, :, :, None, None]
  return [
    _reflected(
      entries[:, i, 0] * x
      + entries[:, i, 1] * y
      + entries[:, i, 2]
      + (size - 1) / 2,
      size,
    )
    for i, size in ((1, height), (0, width))
  ]


def resample(images: jax.Array, maps: jax.Array) -> jax.Array:
  """Interpolates images bilinearly at mapped coordinates.

  Images continue beyond their edges as their mirror images. Maps of pixels to
  pixels do not change a pixel's bits.

  Args:
    images: [B, H, W, C], H and W at least 2.
    maps: [B, 3, 3].

  Returns:
    [B, H, W, C].
  """
  _, height, width, channels = images.shape
  rows, columns = _sources(maps, height, width)
  top = jnp.minimum(jnp.floor(rows), height - 2)
  left = jnp.minimum(jnp.floor(columns), width - 2)
  down, right = ((rows - top)[..., None], (columns - left)[..., None])

  def squares(image, top, left):
    # One window of four pixels: a fourth of the gradient's scattered updates.
    return lax.gather(
      image,
      jnp.stack([top, left], axis=-1).astype(jnp.int32),
      lax.GatherDimensionNumbers(
        offset_dims=(2, 3, 4), collapsed_slice_dims=(), start_index_map=(0, 1)
      ),
      slice_sizes=(2, 2, channels),
      mode='promise_in_bounds',
    )

  four = jax.vmap(squares)(images, top, left)  # [B, H, W, 2, 2, C]
  down, right = down.astype(images.dtype), right.astype(images.dtype)
  upper = (1 - right) * four[:, :, :, 0, 0] + right * four[:, :, :, 0, 1]
  lower = (1 - right) * four[:, :, :, 1, 0] + right * four[:, :, :, 1, 1]
  return (1 - down) * upper + down * lower
