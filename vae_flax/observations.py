"""From an image's bytes to the x that a likelihood is of.

Binarised images are three different data sets, whose likelihoods cannot be
compared: a fresh draw at every use, each pixel 1 with the probability that its
grey says; one such draw, fixed by a seed; and greys from one half on.

Dimensions: B batch, H height, W width, C channels.
"""

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp
import numpy as np

from common_flax.sharding import drawn_globally
from common_flax.threefry import written_out

# (key, uint8 [B, H, W, C], dtype, axis_name) -> x [B, H, W, C]; the key is
# consumed where something is drawn
Observe = Callable[..., jax.Array]


def _thresholds(images: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
  """Bytes -> how many of 2^16 numbers lie below byte / 255, rounded."""
  return (images.astype(np.uint32) * 2**16 + 127) // 255


def binarise(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis_name: str | None = None,
) -> jax.Array:
  """A fresh draw: 1 with probability byte / 255, to within 2^-17.

  Args:
    key: consumed.
    images: uint8 [B, H, W, C].
    dtype: of the result.
    axis_name: mapped axis over which the batch is split, if any.

  Returns:
    [B, H, W, C] of 0 and 1.
  """
  # In one row an image: vectors of a CPU fill better than with rows of pixels.
  num_values = math.prod(images.shape[1:])
  rows = images.reshape(len(images), num_values)
  # 16 bits are finer than 256 greys by far, and quicker than floats.
  bits = drawn_globally(
    lambda num: jax.random.bits(
      written_out(key), (num, num_values), jnp.uint16
    ),
    len(images),
    axis_name,
  )
  # The root of 0 or 1 is itself. XLA computes a root once, but would draw the
  # bits, which it finds cheap, again wherever x is used.
  x = jnp.sqrt((bits < _thresholds(rows)).astype(dtype))
  return x.reshape(images.shape)


def threshold(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis_name: str | None = None,
) -> jax.Array:
  """1 where the grey is above one half; nothing is drawn."""
  del key, axis_name
  return (images >= 128).astype(dtype)


def dequantise(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis_name: str | None = None,
) -> jax.Array:
  """(byte + u) / 256 in [0, 1], u from U(0, 1): a density's proper target."""
  noise = drawn_globally(
    lambda num: jax.random.uniform(key, (num, *images.shape[1:]), dtype),
    len(images),
    axis_name,
  )
  return (images.astype(dtype) + noise) / 256


def scale(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis_name: str | None = None,
) -> jax.Array:
  """The bytes over 255; nothing is drawn."""
  del key, axis_name
  return images.astype(dtype) / 255


def fix(images: np.ndarray, seed: int) -> np.ndarray:
  """One draw of binary images, fixed by a seed.

  Args:
    images: uint8 [N, H, W, C].
    seed: of the draw.

  Returns:
    uint8 [N, H, W, C] of 0 and 255, which `threshold` takes as 0 and 1.
  """
  random = np.random.Philox(key=[seed, 0])
  fixed = np.empty_like(images)
  for image, result in zip(images, fixed, strict=True):
    words = random.random_raw((image.size + 3) // 4)
    bits = words.view(np.uint16)[: image.size].reshape(image.shape)
    result[...] = np.where(bits < _thresholds(image), 255, 0)
  return fixed
