"""Convolution and its adjoint with stride 2, fast on every platform.

A stride-2 convolution S(x, w) is linear in the image x and in the kernel w, so
the scalar <S(x, w), y> is linear in x, w and y. Its three partial derivatives
are the only operations a stride-2 network needs, forward or backward:

  d/dy = S(x, w)   strided convolution          [B, H, W, I] -> [B, H/2, W/2, O]
  d/dx = T(y, w)   transposed convolution       [B, H/2, W/2, O] -> [B, H, W, I]
  d/dw = K(x, y)   gradient of the kernel       [k, k, I, O]

and the gradient of any of them is made of the other two. Saying so by hand
matters on a CPU, where XLA derives slow forms: the kernel gradient of
`lax.conv_transpose` takes 15 to 61 times as long as K (benchmarks/README.md).
There kernels of sides 4 to 6 are computed with fewer multiplications
(`common_flax.nn.winograd`), but next to the pixels; T of larger ones is four
small convolutions, one for each parity of the output's row and column. Some are
matrix products: T next to the pixels and in bfloat16, of which a CPU may have
units of its own, T and K of the smallest kernels, K of grey images. GPUs and
TPUs run the library's convolutions, chosen when a function is lowered.

Padding is 'SAME'. `common_flax.nn.layers` makes modules of these functions.

Dimensions: B batch, H height, W width, I input and O output features, k kernel.
"""

from collections.abc import Callable
import functools

import jax
from jax import lax
import jax.numpy as jnp

from common_flax.nn import winograd

LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# With so few features, as grey or colour has, there is little to gain from
# fewer multiplications.
_FEW_FEATURES = 4


def _library_strided(x: jax.Array, w: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
    x, w, (2, 2), 'SAME', dimension_numbers=LAYOUT
  )


def _library_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  return lax.conv_transpose(
    y, w, (2, 2), 'SAME', dimension_numbers=LAYOUT, transpose_kernel=True
  )


def _library_kernel_gradient(
  x: jax.Array, y: jax.Array, size: int
) -> jax.Array:
  kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1], y.shape[-1]), x.dtype)
  (gradient,) = jax.linear_transpose(lambda w: _library_strided(x, w), kernel)(
    y
  )
  return gradient


def _phase_taps(size: int, phase: int) -> tuple[slice, tuple[int, int]]:
  """Kernel taps that reach outputs of one parity, and their padding.

  Output 2m + phase of T sums w[t] y[i] over the taps t with
  2i + t - low = 2m + phase, where low is S's padding before the image.
  """
  low = (size - 2) // 2
  first = (phase + low) % 2
  last = first + (size - 1 - first) // 2 * 2
  pad_low = (last - phase - low) // 2
  pad_high = (phase + low - first) // 2
  return slice(first, None, 2), (pad_low, pad_high)


def _phased_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
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
          dimension_numbers=LAYOUT,
        )
      )
    rows.append(jnp.stack(columns, axis=3))  # [B, H/2, W/2, 2, I]
  interleaved = jnp.stack(rows, axis=2)  # [B, H/2, 2, W/2, 2, I]
  return interleaved.reshape(batch, 2 * height, 2 * width, features)


def _blocks(size: int) -> int:
  """Pairs of taps that cover a kernel's side; an odd side has a zero tap."""
  return (size + 1) // 2


def _matmul_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w) as one product that gives every tap, and shifted sums of them.

  Tap t = 2p + r of pixel i lands on pixel 2(i + p) + r of the padded result.
  """
  batch, height, width, _ = y.shape
  size, _, features, _ = w.shape
  blocks, low = _blocks(size), (size - 2) // 2
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


def _matmul_kernel_gradient(x: jax.Array, y: jax.Array, size: int) -> jax.Array:
  """K(x, y) as a product for each pair of taps, over the shifted image."""
  batch, height, width, features = y.shape
  blocks, low = _blocks(size), (size - 2) // 2
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


# The fastest forms of those that `benchmarks.layers` times, or as fast within a
# train step.


def _strided_on_cpu(size: int, features: int) -> Callable[..., jax.Array]:
  if features > _FEW_FEATURES and winograd.supports(size):
    return winograd.strided
  return _library_strided


def _transposed_on_cpu(
  size: int, features: int, dtype: jnp.dtype
) -> Callable[..., jax.Array]:
  is_narrow = dtype == jnp.bfloat16
  if size == 2 or features <= _FEW_FEATURES or (is_narrow and size <= 6):
    return _matmul_transposed
  if size == 3:
    return _library_transposed
  return winograd.transposed if winograd.supports(size) else _phased_transposed


def _kernel_gradient_on_cpu(
  size: int, features: int, dtype: jnp.dtype
) -> Callable[..., jax.Array]:
  if features == 1 or size == 2:
    return _matmul_kernel_gradient
  if features <= _FEW_FEATURES:
    return _library_kernel_gradient
  if winograd.supports(size):
    return winograd.kernel_gradient
  if dtype == jnp.bfloat16 and size == 3:
    return _matmul_kernel_gradient
  return _library_kernel_gradient


@jax.custom_vjp
def strided(x: jax.Array, w: jax.Array) -> jax.Array:
  """S(x, w): stride-2 'SAME' convolution of an image of even height and width.

  Args:
    x: [B, H, W, I] images, H and W even.
    w: [k, k, I, O] kernel, k at least 2.

  Returns:
    [B, H/2, W/2, O].
  """
  return lax.platform_dependent(
    x,
    w,
    cpu=_strided_on_cpu(w.shape[0], x.shape[-1]),
    default=_library_strided,
  )


@jax.custom_vjp
def transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w): the adjoint of `strided` in its image.

  Args:
    y: [B, H/2, W/2, O] images.
    w: [k, k, I, O] kernel of the strided convolution, k at least 2.

  Returns:
    [B, H, W, I].
  """
  return lax.platform_dependent(
    y,
    w,
    cpu=_transposed_on_cpu(w.shape[0], w.shape[2], w.dtype),
    default=_library_transposed,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def kernel_gradient(x: jax.Array, y: jax.Array, size: int) -> jax.Array:
  """K(x, y): the adjoint of `strided` in its kernel.

  Args:
    x: [B, H, W, I] images.
    y: [B, H/2, W/2, O] cotangents.
    size: the kernel's side k.

  Returns:
    [k, k, I, O].
  """
  on_cpu = _kernel_gradient_on_cpu(size, x.shape[-1], x.dtype)
  return lax.platform_dependent(
    x,
    y,
    cpu=functools.partial(on_cpu, size=size),
    default=functools.partial(_library_kernel_gradient, size=size),
  )


strided.defvjp(
  lambda x, w: (strided(x, w), (x, w)),
  lambda saved, y: (
    transposed(y, saved[1]),
    kernel_gradient(saved[0], y, saved[1].shape[0]),
  ),
)
transposed.defvjp(
  lambda y, w: (transposed(y, w), (y, w)),
  lambda saved, x: (
    strided(x, saved[1]),
    kernel_gradient(x, saved[0], saved[1].shape[0]),
  ),
)
kernel_gradient.defvjp(
  lambda x, y, size: (kernel_gradient(x, y, size), (x, y)),
  lambda size, saved, w: (transposed(saved[1], w), strided(saved[0], w)),
)
