"""Stride-2 convolutions on a CPU: the forms, and which one is the fastest.

The functions are S, T and K of `common_flax.nn.conv`, which has their textbook
forms, the library's convolutions. `fast_strided`, `fast_transposed` and
`fast_kernel_gradient` choose a form by the kernel's side, the image's features
and the type. Three ideas are behind the forms:

* Winograd's algorithm saves multiplications for kernels of sides 4 to 6, except
  next to the pixels, where few features leave little to save
  (`common_flax.cpu.winograd`).
* Matrix products: T next to the pixels, T in bfloat16, for which a CPU may have
  units of its own, T and K of the smallest kernels, and K of grey images.
* Phases: T of larger kernels is four small convolutions, one for each parity of
  the output's row and column.

The choices are the fastest forms that `benchmarks.layers` times, or forms that
are as fast within a train step.

Dimensions: B batch, H height, W width of the image with I features; O features
at half the size; k kernel.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp

from common_flax.cpu import winograd

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
_FEW_FEATURES = 4  # grey or colour


def fast_strided(size: int, features: int) -> Callable[..., jax.Array] | None:
  """The form of S(x, w) for a CPU; None for the library's.

  Args:
    size: the kernel's side k.
    features: I.
  """
  if features > _FEW_FEATURES and winograd.supports(size):
    return winograd.strided
  return None


def fast_transposed(
  size: int, features: int, dtype: jnp.dtype
) -> Callable[..., jax.Array] | None:
  """The form of T(y, w) for a CPU; None for the library's.

  Args:
    size: the kernel's side k.
    features: I.
    dtype: type of the arrays.
  """
  is_narrow = dtype == jnp.bfloat16
  if size == 2 or features <= _FEW_FEATURES or (is_narrow and size <= 6):
    return matmul_transposed
  if size == 3:
    return None
  return winograd.transposed if winograd.supports(size) else phased_transposed


def fast_kernel_gradient(
  size: int, features: int, dtype: jnp.dtype
) -> Callable[..., jax.Array] | None:
  """The form of K(x, y, size) for a CPU; None for the library's.

  Args:
    size: the kernel's side k.
    features: I.
    dtype: type of the arrays.
  """
  if features == 1 or size == 2:
    return matmul_kernel_gradient
  if features <= _FEW_FEATURES:
    return None
  if winograd.supports(size):
    return winograd.kernel_gradient
  if dtype == jnp.bfloat16 and size == 3:
    return matmul_kernel_gradient
  return None


def _phase_taps(size: int, phase: int) -> tuple[slice, tuple[int, int]]:
  """Kernel taps that reach the outputs of one parity, and their padding.

  Output 2m + phase of T sums w[t] y[i] over the taps t with
  2i + t - low = 2m + phase, where low is S's padding before the image.
  """
  low = (size - 2) // 2
  first = (phase + low) % 2
  last = first + (size - 1 - first) // 2 * 2
  pad_low = (last - phase - low) // 2
  pad_high = (phase + low - first) // 2
  return slice(first, None, 2), (pad_low, pad_high)


def phased_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w) as one stride-1 convolution for each parity of row and column."""
  batch, height, width, _ = y.shape
  features = w.shape[2]
  w = w.swapaxes(2, 3)  # [k, k, O, I]
  rows = []
  for row in (0, 1):
    row_taps, row_padding = _phase_taps(w.shape[0], row)
    columns = []
    for column in (0, 1):
      column_taps, column_padding = _phase_taps(w.shape[1], column)
      taps = w[row_taps, column_taps][::-1, ::-1]
      columns.append(
        lax.conv_general_dilated(
          y,
          taps,
          (1, 1),
          (row_padding, column_padding),
          dimension_numbers=_LAYOUT,
        )
      )
    rows.append(jnp.stack(columns, axis=3))  # [B, H/2, W/2, 2, I]
  interleaved = jnp.stack(rows, axis=2)  # [B, H/2, 2, W/2, 2, I]
  return interleaved.reshape(batch, 2 * height, 2 * width, features)


def _tap_pairs(size: int) -> int:
  """Pairs of taps along a kernel's side; an odd side gets a zero tap."""
  return (size + 1) // 2


def matmul_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w) as one product for all taps, and shifted sums of the taps.

  Tap t = 2p + r of pixel i lands on pixel 2(i + p) + r of the padded result.
  """
  batch, height, width, _ = y.shape
  size, _, features, _ = w.shape
  blocks, low = _tap_pairs(size), (size - 2) // 2
  even = ((0, size % 2), (0, size % 2), (0, 0), (0, 0))
  taps = jnp.einsum(
    'bhwo,ptio->bhwpti',
    y,
    jnp.pad(w, even),
    preferred_element_type=jnp.promote_types(y.dtype, jnp.float32),
  )
  result = 0.0
  for p in range(blocks):
    for q in range(blocks):
      tap = taps[:, :, :, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2]
      tap = tap.transpose(0, 1, 3, 2, 4, 5)  # [B, H/2, 2, W/2, 2, I]
      rows, columns = (p, blocks - 1 - p), (q, blocks - 1 - q)
      shift = ((0, 0), rows, (0, 0), columns, (0, 0), (0, 0))
      result = result + jnp.pad(tap, shift)
  padded = result.reshape(
    batch, 2 * (height + blocks - 1), 2 * (width + blocks - 1), features
  )
  padded = padded[:, low : low + 2 * height, low : low + 2 * width]
  return padded.astype(y.dtype)


def matmul_kernel_gradient(x: jax.Array, y: jax.Array, size: int) -> jax.Array:
  """K(x, y) as a product for each pair of taps, over the shifted image."""
  batch, height, width, features = y.shape
  blocks, low = _tap_pairs(size), (size - 2) // 2
  edge = (low, 2 * (blocks - 1) - low)
  x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
  pairs = x.reshape(
    batch, height + blocks - 1, 2, width + blocks - 1, 2, x.shape[-1]
  ).transpose(0, 1, 3, 2, 4, 5)  # [B, H/2 + p, W/2 + q, r, s, I]
  taps = jnp.stack(
    [
      jnp.stack(
        [
          jnp.einsum(
            'bhwrsi,bhwo->rsio',
            pairs[:, p : p + height, q : q + width],
            y,
            preferred_element_type=jnp.promote_types(y.dtype, jnp.float32),
          )
          for q in range(blocks)
        ]
      )
      for p in range(blocks)
    ]
  )  # [p, q, r, s, I, O]
  kernel = taps.transpose(0, 2, 1, 3, 4, 5).reshape(
    2 * blocks, 2 * blocks, x.shape[-1], features
  )
  return kernel[:size, :size].astype(y.dtype)
