"""Convolution with stride 2 and its adjoints.

A stride-2 convolution S(x, w) is linear in the image x and in the kernel w, so
the scalar <S(x, w), y> is linear in x, w and y. Its three partial derivatives
are the only operations that a stride-2 network needs, forward or backward:

  d/dy = S(x, w)   strided convolution          [B, H, W, I] -> [B, H/2, W/2, O]
  d/dx = T(y, w)   transposed convolution       [B, H/2, W/2, O] -> [B, H, W, I]
  d/dw = K(x, y)   gradient of the kernel       [k, k, I, O]

The gradient of each is made of the other two. Stating this by hand matters on a
CPU, where XLA derives slow forms: the kernel gradient of `lax.conv_transpose`
takes 15 to 61 times as long as K (benchmarks/README.md).

`library_strided`, `library_transposed` and `library_kernel_gradient` are the
definitions, which GPUs and TPUs run. A CPU runs equal forms from
`common_flax.cpu.convolutions`.

Padding is 'SAME'. `common_flax.nn.layers` makes modules of these functions.

Dimensions: B batch, H height, W width, I input and O output features, k kernel.
"""

import functools

import jax
from jax import lax

from common_flax.cpu import convolutions
from common_flax.cpu.dispatch import on_cpu

LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def library_strided(x: jax.Array, w: jax.Array) -> jax.Array:
  """The definition of S(x, w)."""
  return lax.conv_general_dilated(
    x, w, (2, 2), 'SAME', dimension_numbers=LAYOUT
  )


def library_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """The definition of T(y, w)."""
  return lax.conv_transpose(
    y, w, (2, 2), 'SAME', dimension_numbers=LAYOUT, transpose_kernel=True
  )


def library_kernel_gradient(x: jax.Array, y: jax.Array, size: int) -> jax.Array:
  """The definition of K(x, y), for a kernel of side `size`."""
  kernel = jax.ShapeDtypeStruct((size, size, x.shape[-1], y.shape[-1]), x.dtype)
  of_kernel = functools.partial(library_strided, x)
  (gradient,) = jax.linear_transpose(of_kernel, kernel)(y)
  return gradient


@jax.custom_vjp
def strided(x: jax.Array, w: jax.Array) -> jax.Array:
  """S(x, w): stride-2 'SAME' convolution of an image of even height and width.

  Args:
    x: [B, H, W, I] images, H and W even.
    w: [k, k, I, O] kernel, k at least 2.

  Returns:
    [B, H/2, W/2, O].
  """
  fast = convolutions.fast_strided(w.shape[0], x.shape[-1])
  return on_cpu(fast, library_strided, x, w)


@jax.custom_vjp
def transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w): the adjoint of `strided` in its image.

  Args:
    y: [B, H/2, W/2, O] images.
    w: [k, k, I, O] kernel of the strided convolution, k at least 2.

  Returns:
    [B, H, W, I].
  """
  fast = convolutions.fast_transposed(w.shape[0], w.shape[2], w.dtype)
  return on_cpu(fast, library_transposed, y, w)


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
  fast = convolutions.fast_kernel_gradient(size, x.shape[-1], x.dtype)
  return on_cpu(
    fast and functools.partial(fast, size=size),
    functools.partial(library_kernel_gradient, size=size),
    x,
    y,
  )


# The cotangents of each function are the other two.


def _strided_pullback(saved, y):
  x, w = saved
  return transposed(y, w), kernel_gradient(x, y, w.shape[0])


def _transposed_pullback(saved, x):
  y, w = saved
  return strided(x, w), kernel_gradient(x, y, w.shape[0])


def _kernel_gradient_pullback(size, saved, w):
  del size
  x, y = saved
  return transposed(y, w), strided(x, w)


strided.defvjp(lambda x, w: (strided(x, w), (x, w)), _strided_pullback)
transposed.defvjp(lambda y, w: (transposed(y, w), (y, w)), _transposed_pullback)
kernel_gradient.defvjp(
  lambda x, y, size: (kernel_gradient(x, y, size), (x, y)),
  _kernel_gradient_pullback,
)
