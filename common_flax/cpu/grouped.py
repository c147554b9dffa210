"""Grouped convolutions on a CPU, as dense convolutions of joined groups.

The functions are C and K of `common_flax.nn.grouped`, which has their textbook
forms, the library's. XLA for CPUs runs a grouped convolution below the rate of
dense ones, and its kernel gradient as a dense convolution of all features. Here
neighbouring groups are joined until they have about 32 features, for K 16, and
each join is a dense convolution whose kernel is 0 between groups. Wider joins
multiply more zeros, narrower ones run at a lower rate.

CPU milliseconds for 8 images of 16x16 pixels with 64 features in groups of 16,
kernels of side 3, one thread of a shared x86 CPU (AVX-512), 28 November 2026:

               library   16 features   32      64
  C            2.7       1.6           1.2     2.2
  K                      1.2           1.7     2.5

Winograd's algorithm takes 2.2 ms for C, and nine products of shifted images 3.3
ms for K. The library's K was not timed at this size; at 32 images of 8x8 pixels
with 128 features it took 1,384 ms when the library's C took 14 ms.

Dimensions: B batch, H height, W width, k kernel; I input and O output features,
i and o those of a group, J groups in a join.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
_FEATURES = 32  # of a join, on its wider side
_FEATURES_OF_KERNEL_GRADIENT = 16
_MAX_JOINS = 8  # bounds the size of the program of wide networks


def _joined(inputs: int, outputs: int, num_groups: int, features: int) -> int:
  """J: how many groups of i and o features make a join of `features`."""
  best = 1
  for number in range(1, num_groups + 1):
    is_narrow = number * max(inputs, outputs) <= features
    is_needed = num_groups // best > _MAX_JOINS
    if num_groups % number == 0 and (is_narrow or is_needed):
      best = number
  return best


def _dense(x: jax.Array, w: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
    x, w, (1, 1), 'SAME', dimension_numbers=_LAYOUT
  )


def _parts(x: jax.Array, num: int) -> list[jax.Array]:
  """Splits the features into equal parts."""
  return jnp.split(x, num, axis=-1)


def convolution(x: jax.Array, w: jax.Array) -> jax.Array:
  """C(x, w), [B, H, W, I] and [k, k, i, O] -> [B, H, W, O]."""
  size, _, inputs, outputs = w.shape
  num_groups = x.shape[-1] // inputs
  outputs //= num_groups
  joined = _joined(inputs, outputs, num_groups, _FEATURES)
  num = num_groups // joined
  own = jnp.eye(joined, dtype=w.dtype)
  # [k, k, J, i, joins, J, o], which is 0 between unlike groups of a join
  w = w.reshape(size, size, 1, inputs, num, joined, outputs)
  w = w * own[None, None, :, None, None, :, None]
  w = w.reshape(size, size, joined * inputs, -1)
  results = [
    _dense(part, kernel)
    for part, kernel in zip(_parts(x, num), _parts(w, num), strict=True)
  ]
  return jnp.concatenate(results, axis=-1)


def kernel_gradient(
  x: jax.Array, y: jax.Array, shape: tuple[int, int, int, int]
) -> jax.Array:
  """K(x, y, shape), [B, H, W, I] and [B, H, W, O] -> [k, k, i, O]."""
  size, _, inputs, outputs = shape
  num_groups = x.shape[-1] // inputs
  outputs //= num_groups
  joined = _joined(inputs, outputs, num_groups, _FEATURES_OF_KERNEL_GRADIENT)
  num = num_groups // joined
  kernel = jax.ShapeDtypeStruct(
    (size, size, joined * inputs, joined * outputs), x.dtype
  )
  results = []
  for part, cotangent in zip(_parts(x, num), _parts(y, num), strict=True):
    of_kernel = functools.partial(_dense, part)
    (gradient,) = jax.linear_transpose(of_kernel, kernel)(cotangent)
    gradient = gradient.reshape(size, size, joined, inputs, joined, outputs)
    own = [gradient[:, :, j, :, j] for j in range(joined)]  # [k, k, i, o]
    results += own
  return jnp.concatenate(results, axis=-1)
