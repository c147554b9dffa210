"""Convolution and its adjoint with stride 2, fast on every platform.

A stride-2 convolution S(x, w) is linear in the image x and in the kernel w, so
the scalar <S(x, w), y> is linear in x, w and y. Its three partial derivatives
are the only operations a stride-2 network needs, forward or backward:

  d/dy = S(x, w)   strided convolution          [B, H, W, I] -> [B, H/2, W/2, O]
  d/dx = T(y, w)   transposed convolution       [B, H/2, W/2, O] -> [B, H, W, I]
  d/dw = K(x, y)   gradient of the kernel       [k, k, I, O]

and the gradient of any of them is made of the other two. Saying so by hand
matters on a CPU, where XLA derives slow forms: the kernel gradient of
`lax.conv_transpose` takes 32 to 61 times as long as K (benchmarks/README.md).
There kernels of side 4 and more are computed with fewer multiplications
(`common_flax.nn.winograd`); T of smaller ones is four small convolutions, one
for each parity of the output's row and column; next to the pixels T and K are
matrix products. GPUs and TPUs run the library's convolutions, chosen when a
function is lowered.

Padding is 'SAME', as in `flax.linen.Conv` and `flax.linen.ConvTranspose`, whose
parameters and results these modules share.

Dimensions: B batch, H height, W width, I input and O output features, k kernel.
"""

import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from common_flax.nn import winograd

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# With so few features, as grey or colour has, XLA's convolutions leave most
# of a CPU idle; there T and K are written as matrix products.
_FEW_FEATURES = 4


def _library_strided(x: jax.Array, w: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
    x, w, (2, 2), 'SAME', dimension_numbers=_LAYOUT
  )


def _library_transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  return lax.conv_transpose(
    y, w, (2, 2), 'SAME', dimension_numbers=_LAYOUT, transpose_kernel=True
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
          dimension_numbers=_LAYOUT,
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


@jax.custom_vjp
def strided(x: jax.Array, w: jax.Array) -> jax.Array:
  """S(x, w): stride-2 'SAME' convolution of an image of even height and width.

  Args:
    x: [B, H, W, I] images, H and W even.
    w: [k, k, I, O] kernel, k at least 2.

  Returns:
    [B, H/2, W/2, O].
  """
  on_cpu = _library_strided
  if x.shape[-1] > _FEW_FEATURES and winograd.supports(w.shape[0]):
    on_cpu = winograd.strided
  return lax.platform_dependent(x, w, cpu=on_cpu, default=_library_strided)


@jax.custom_vjp
def transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w): the adjoint of `strided` in its image.

  Args:
    y: [B, H/2, W/2, O] images.
    w: [k, k, I, O] kernel of the strided convolution, k at least 2.

  Returns:
    [B, H, W, I].
  """
  on_cpu = _phased_transposed
  if w.shape[2] <= _FEW_FEATURES:
    on_cpu = _matmul_transposed
  elif winograd.supports(w.shape[0]):
    on_cpu = winograd.transposed
  return lax.platform_dependent(y, w, cpu=on_cpu, default=_library_transposed)


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
  library = functools.partial(_library_kernel_gradient, size=size)
  on_cpu = library
  if x.shape[-1] <= _FEW_FEATURES:
    on_cpu = functools.partial(_matmul_kernel_gradient, size=size)
  elif winograd.supports(size):
    on_cpu = functools.partial(winograd.kernel_gradient, size=size)
  return lax.platform_dependent(x, y, cpu=on_cpu, default=library)


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


class Conv(nn.Module):
  """Convolution, height and width divided by stride.

  The parameter `kernel` and the result are those of
  `nn.Conv(features, (k, k), strides=stride, use_bias=use_bias)`.
  """

  features: int
  kernel_size: int
  stride: int = 2
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    _check_stride(self.stride)
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    has_odd_side = x.shape[1] % 2 or x.shape[2] % 2
    if self.stride == 1 or has_odd_side or self.kernel_size == 1:
      strides = (self.stride, self.stride)
      y = lax.conv_general_dilated(
        x, kernel, strides, 'SAME', dimension_numbers=_LAYOUT
      )
    else:
      y = strided(x, kernel)
    return _with_bias(self, y)


class TransposedConv(nn.Module):
  """Transposed convolution, height and width times stride.

  The parameter `kernel` and the result are those of
  `nn.ConvTranspose(features, (k, k), strides=(stride, stride),
  use_bias=use_bias)`.
  """

  features: int
  kernel_size: int
  stride: int = 2
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    _check_stride(self.stride)
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if self.stride == 1 or self.kernel_size == 1:
      strides = (self.stride, self.stride)
      y = lax.conv_transpose(
        x, kernel, strides, 'SAME', dimension_numbers=_LAYOUT
      )
    else:
      # nn.ConvTranspose stores the kernel of the dilated convolution it
      # computes, the strided convolution's turned by 180 degrees.
      y = transposed(x, kernel[::-1, ::-1].swapaxes(2, 3))
    return _with_bias(self, y)


def _with_bias(layer: Conv | TransposedConv, y: jax.Array) -> jax.Array:
  """Adds the parameter `bias` to [B, H, W, O], if the layer has one."""
  if not layer.use_bias:
    return y
  bias = layer.param(
    'bias', nn.initializers.zeros_init(), y.shape[-1:], layer.param_dtype
  )
  return y + bias.astype(y.dtype)[None, None, None]


def _check_stride(stride: int) -> None:
  if stride not in (1, 2):
    raise ValueError(f'stride={stride}: is 1 or 2')


def kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  """The `kernel` of `Conv` for the weight of a `torch.nn.Conv2d`.

  Args:
    weight: [O, I, k, k].

  Returns:
    [k, k, I, O]. Padding agrees where PyTorch pads k // 2 - 1 pixels (k even,
    stride 2) or k // 2 (k odd, stride 1).
  """
  return weight.transpose(2, 3, 1, 0)


def transposed_kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  """The `kernel` of `TransposedConv` for a `torch.nn.ConvTranspose2d`'s weight.

  Args:
    weight: [I, O, k, k].

  Returns:
    [k, k, I, O], turned by 180 degrees; padding as for `kernel_from_torch`.
  """
  return weight.transpose(2, 3, 0, 1)[::-1, ::-1]
