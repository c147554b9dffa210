"""Random affine maps of colours, composed into one matrix per image.

A map is a matrix that takes (c_1, ..., c_C, 1), a pixel's channels in [-1, 1],
to the new ones. Maps compose from the right: `a @ b` is first b, then a.

The distributions are those of Karras et al. (2020), arXiv:2006.06676, appendix
B. The luma axis v is the diagonal of the colour cube, along which greys lie.

Dimensions: B batch, H height, W width, C channels.
"""

import math

import jax
import jax.numpy as jnp

from gan_flax.augmentation.geometry import compose
from gan_flax.augmentation.geometry import sometimes

COLOR = 'color'

_BRIGHTNESS = 0.2  # standard deviation
_LOG_CONTRAST = 0.5 * math.log(2)
_LOG_SATURATION = math.log(2)


def _affine(linear: jax.Array, offset: jax.Array) -> jax.Array:
  """Matrices [B, C + 1, C + 1] of linear parts [B, C, C] and offsets [B, C]."""
  num, channels = offset.shape
  top = jnp.concatenate([linear, offset[:, :, None]], axis=2)
  last = jnp.eye(channels + 1, dtype=linear.dtype)[-1:]
  return jnp.concatenate(
    [top, jnp.broadcast_to(last, (num, 1, channels + 1))], axis=1
  )


def _of_linear(linear: jax.Array) -> jax.Array:
  return _affine(linear, jnp.zeros(linear.shape[:2], linear.dtype))


def _along_luma(channels: int, dtype: jnp.dtype) -> jax.Array:
  """The projection v v^T onto the luma axis, [1, C, C]."""
  return jnp.full((1, channels, channels), 1 / channels, dtype)


def brightness(amount: jax.Array, channels: int) -> jax.Array:
  """Adds `amount` [B] to every channel."""
  linear = jnp.eye(channels, dtype=amount.dtype)[None]
  return _affine(
    jnp.broadcast_to(linear, (len(amount), channels, channels)),
    jnp.broadcast_to(amount[:, None], (len(amount), channels)),
  )


def contrast(factor: jax.Array, channels: int) -> jax.Array:
  """Multiplies every channel by `factor` [B]."""
  identity = jnp.eye(channels, dtype=factor.dtype)[None]
  return _of_linear(factor[:, None, None] * identity)


def luma_flip(is_flipped: jax.Array, channels: int) -> jax.Array:
  """Mirrors colours along the luma axis where `is_flipped`, 0 or 1, [B].

  Black becomes white, and hues remain; a grey image becomes its negative.
  """
  dtype = is_flipped.dtype
  identity = jnp.eye(channels, dtype=dtype)[None]
  flip = 2 * is_flipped[:, None, None]
  return _of_linear(identity - flip * _along_luma(channels, dtype))


def hue(angle: jax.Array) -> jax.Array:
  """Turns the colours of three channels about the luma axis by `angle` [B]."""
  cosine, sine = (f(angle)[:, None, None] for f in (jnp.cos, jnp.sin))
  cross = jnp.array([[[0, -1, 1], [1, 0, -1], [-1, 1, 0]]], angle.dtype)
  identity = jnp.eye(3, dtype=angle.dtype)[None]
  # Rodrigues' formula.
  return _of_linear(
    cosine * identity
    + sine * cross / math.sqrt(3)
    + (1 - cosine) * _along_luma(3, angle.dtype)
  )


def saturation(factor: jax.Array, channels: int) -> jax.Array:
  """Multiplies the distance from grey by `factor` [B]."""
  luma = _along_luma(channels, factor.dtype)
  identity = jnp.eye(channels, dtype=factor.dtype)[None]
  return _of_linear(luma + factor[:, None, None] * (identity - luma))


def draw_maps(
  key: jax.Array, num: int, p: jax.Array, channels: int, dtype: jnp.dtype
) -> jax.Array:
  """Draws brightness, contrast and luma flip; of RGB hue and saturation, too.

  Each is applied with probability `p`.

  Args:
    key: consumed.
    num: B.
    p: probability [].
    channels: C.
    dtype: of the matrices.

  Returns:
    [B, C + 1, C + 1].
  """
  keys = jax.random.split(key, 10)

  def normal(key):
    return jax.random.normal(key, (num,), dtype)

  is_flipped = jax.random.bernoulli(keys[4], 0.5, (num,)).astype(dtype)
  maps = [
    brightness(_BRIGHTNESS * normal(keys[0]), channels),
    contrast(jnp.exp(_LOG_CONTRAST * normal(keys[2])), channels),
    luma_flip(is_flipped, channels),
  ]
  if channels == 3:
    angle = jax.random.uniform(keys[6], (num,), dtype, -jnp.pi, jnp.pi)
    factor = jnp.exp(_LOG_SATURATION * normal(keys[8]))
    maps += [hue(angle), saturation(factor, channels)]
  gates = keys[1::2]
  applied = [
    sometimes(gate, p, each) for gate, each in zip(gates, maps, strict=False)
  ]
  return compose(*reversed(applied))


def recolor(images: jax.Array, maps: jax.Array) -> jax.Array:
  """Maps the colours of images [B, H, W, C] by matrices [B, C + 1, C + 1]."""
  offset = maps[:, None, None, :-1, -1]
  linear = maps[:, :-1, :-1].astype(images.dtype)
  recolored = jnp.einsum('bij,bhwj->bhwi', linear, images, precision='highest')
  return recolored + offset.astype(images.dtype)
