"""Images of twice or half the side, by linear interpolation.

Dimensions: B batch, H height, W width, C features.
"""

import jax
import jax.numpy as jnp


def upsampled(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, 2H, 2W, C] by linear interpolation.

  Each new pixel takes 3/4 of the nearest pixel and 1/4 of the next in either
  direction; beyond the border are zeros. It is the filter (1, 2, 1) applied to
  repeated pixels, as R3GAN has it (Huang et al. 2024, arXiv:2501.05441).
  """
  for axis in (1, 2):
    before, after = _neighbours(x, axis)
    pairs = jnp.stack(
      [0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1
    )
    shape = list(x.shape)
    shape[axis] *= 2
    x = pairs.reshape(shape)
  return x


def downsampled(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, H/2, W/2, C], a quarter of the adjoint of `upsampled`.

  Along each axis a new pixel is the sum of four pixels with the weights
  (1, 3, 3, 1) / 8; beyond the border are zeros.
  """
  for axis in (1, 2):
    shape = list(x.shape)
    shape[axis : axis + 1] = [shape[axis] // 2, 2]
    even, odd = jnp.moveaxis(x.reshape(shape), axis + 1, 0)
    before, _ = _neighbours(odd, axis)
    _, after = _neighbours(even, axis)
    x = 0.375 * (even + odd) + 0.125 * (before + after)
  return x


def _neighbours(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
  """For each pixel the one before it and the one after it, 0 at the border."""
  size = x.shape[axis]
  edges = [int(i == axis) for i in range(x.ndim)]
  padded = jnp.pad(x, [(edge, edge) for edge in edges])
  before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
  after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
  return before, after
