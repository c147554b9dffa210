"""Stride-2 convolutions with fewer multiplications (Winograd 1980).

Splitting an image with I features into even and odd rows and columns gives an
image with 4 I features at half the size. There a stride-2 kernel of side k is a
stride-1 kernel of side P = ceil(k / 2). Lavin and Gray (2015, arXiv:1509.09308)
compute two neighbouring outputs of P taps from P + 1 products instead of 2 P:

  y = A [(G w) * (B x)]        A [2, P+1], G [P+1, P], B [P+1, P+1]

In two dimensions a tile of 2x2 outputs takes (P + 1)^2 products: 9 instead of
16 for a kernel of side 4, 16 instead of 25 (36 with zero taps) for side 5. Each
product is a matrix product over all tiles of a batch. With tiles this small,
rounding errors are no larger than a direct convolution's. For bfloat16 arrays
sums are float32 and the factors of a product are rounded to bfloat16.

`strided`, `transposed` and `kernel_gradient` are the functions S, T and K of
`common_flax.nn.conv`. T and K use the transposes of A, G and B. The three
transform the same arrays; within one compiled function XLA shares that work.

Dimensions: B batch, H height, W width of the image of I features; O features at
half the size; k kernel; T tiles of 2x2 outputs in a batch.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp

_TILE = 2  # outputs a side
# (A, G, B) by the number of taps P.
_FILTERS = {
  2: (
    ((1, 1, 0), (0, 1, 1)),
    ((1, 0), (1, 1), (0, 1)),
    ((1, -1, 0), (0, 1, 0), (0, -1, 1)),
  ),
  3: (
    ((1, 1, 1, 0), (0, 1, -1, 1)),
    ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
  ),
}


def _apply(matrix, arrays: Sequence[jax.Array]) -> list[jax.Array]:
  """Multiplies a column of arrays by a matrix; zeros and ones are free."""
  results = []
  for row in matrix:
    terms = [
      x if factor == 1 else -x if factor == -1 else factor * x
      for factor, x in zip(row, arrays, strict=True)
      if factor
    ]
    results.append(functools.reduce(jnp.add, terms))
  return results


def _transposed(matrix):
  return tuple(zip(*matrix, strict=True))


def _wide(x: jax.Array) -> jax.Array:
  """Casts to the type that sums are taken in."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _padded(x: jax.Array, edges: Sequence[tuple[int, int]]) -> jax.Array:
  """Pads, stores the result once, and casts it to the type of sums.

  XLA for CPUs fuses the computation of an array into each of its consumers, so
  every factor would repeat it. It does not fuse padding. Optimisation barriers
  are removed before fusion; this one makes XLA store bfloat16 as bfloat16.
  """
  return _wide(lax.optimization_barrier(jnp.pad(x, edges)))


def _multiply(left: jax.Array, right: jax.Array) -> jax.Array:
  return jnp.matmul(
    left,
    right,
    preferred_element_type=jnp.promote_types(left.dtype, jnp.float32),
  )


def _turned(x: jax.Array) -> jax.Array:
  """x.T; bfloat16 is stored first, as a CPU's fast products require."""
  return lax.optimization_barrier(x.T) if x.dtype == jnp.bfloat16 else x.T


def _taps(kernel_size: int) -> int:
  return (kernel_size + 1) // 2


def _tiles(size: int) -> int:
  """Tiles along a side of the image."""
  return -(-size // (2 * _TILE))


def _image_products(x: jax.Array, size: int) -> list[jax.Array]:
  """B x: the factors from the image, each [T, 4 I]."""
  _, _, matrix = _FILTERS[_taps(size)]
  batch, height, width, features = x.shape
  rows, columns = _tiles(height), _tiles(width)
  low = (size - 2) // 2
  edge = (low, 2 - low)  # low is 1 or 2
  half_rows, half_columns = height // 2 + 1, width // 2 + 1
  split = (
    jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
    .reshape(batch, half_rows, 2, half_columns, 2, features)
    .transpose(0, 1, 3, 2, 4, 5)
  )  # [B, half rows, half columns, row parity, column parity, I]
  edges = (
    (0, _TILE * (rows + 1) - half_rows),
    (0, _TILE * (columns + 1) - half_columns),
  )
  padded = _padded(split, ((0, 0), *edges, (0, 0), (0, 0), (0, 0))).reshape(
    batch, rows + 1, _TILE, columns + 1, _TILE, 4 * features
  )
  num = len(matrix)
  by_row = _apply(
    matrix,
    [padded[:, t // _TILE : rows + t // _TILE, t % _TILE] for t in range(num)],
  )  # [P + 1] of [B, tiles, tiles + 1, 2, 4 I]
  return [
    product.reshape(-1, 4 * features).astype(x.dtype)
    for row in by_row
    for product in _apply(
      matrix,
      [
        row[:, :, t // _TILE : columns + t // _TILE, t % _TILE]
        for t in range(num)
      ],
    )
  ]


def _sum_image(
  products: Sequence[jax.Array], shape: Sequence[int], size: int
) -> jax.Array:
  """The transpose of `_image_products`: arrays [T, 4 I] -> [B, H, W, I]."""
  _, _, matrix = _FILTERS[_taps(size)]
  matrix = _transposed(matrix)
  batch, height, width, features = shape
  rows, columns = _tiles(height), _tiles(width)
  num = len(matrix)

  def overlap(taps, axis):
    """Adds up the taps of all tiles along an axis, one sum per place."""
    places = []
    for place in range(_TILE):
      total = 0
      for t in range(place, num, _TILE):
        shift = [(0, 0)] * taps[t].ndim
        shift[axis] = (t // _TILE, 1 - t // _TILE)
        total = total + jnp.pad(taps[t], shift)
      places.append(total)
    return places

  factors = [
    product.reshape(batch, rows, columns, 4 * features) for product in products
  ]
  by_row = [
    overlap(_apply(matrix, factors[i : i + num]), 2)
    for i in range(0, num * num, num)
  ]  # [P + 1][tile column] of [B, tiles, tiles + 1, 4 I]
  by_column = [
    overlap(_apply(matrix, [row[place] for row in by_row]), 1)
    for place in range(_TILE)
  ]  # [tile column][tile row] of [B, tiles + 1, tiles + 1, 4 I]
  split = jnp.stack(
    [
      jnp.stack([column[row] for column in by_column], 3)
      for row in range(_TILE)
    ],
    2,
  )  # [B, tiles + 1, tile row, tiles + 1, tile column, 4 I]
  height_in_tiles, width_in_tiles = _TILE * (rows + 1), _TILE * (columns + 1)
  padded = (
    split.reshape(batch, height_in_tiles, width_in_tiles, 2, 2, features)
    .transpose(0, 1, 3, 2, 4, 5)
    .reshape(batch, 2 * height_in_tiles, 2 * width_in_tiles, features)
  )
  low = (size - 2) // 2
  return padded[:, low : low + height, low : low + width]


def _kernel_products(w: jax.Array) -> list[jax.Array]:
  """G w: the factors from the kernel, each [4 I, O]."""
  size, _, inputs, outputs = w.shape
  taps = _taps(size)
  _, matrix, _ = _FILTERS[taps]
  odd = 2 * taps - size
  padded = jnp.pad(_wide(w), ((0, odd), (0, odd), (0, 0), (0, 0)))
  padded = padded.reshape(taps, 2, taps, 2, inputs, outputs)
  return [
    product.reshape(4 * inputs, outputs).astype(w.dtype)
    for row in _apply(matrix, [padded[t] for t in range(taps)])
    for product in _apply(matrix, [row[:, t] for t in range(taps)])
  ]


def _sum_kernel(
  products: Sequence[jax.Array], shape: Sequence[int]
) -> jax.Array:
  """The transpose of `_kernel_products`: arrays [4 I, O] -> [k, k, I, O]."""
  size, _, inputs, outputs = shape
  _, matrix, _ = _FILTERS[_taps(size)]
  matrix = _transposed(matrix)
  num = len(matrix[0])
  products = [p.reshape(2, 2, inputs, outputs) for p in products]
  by_row = [
    jnp.stack(_apply(matrix, products[i : i + num]), 1)
    for i in range(0, num * num, num)
  ]  # [P + 1] of [2, P, 2, I, O]
  w = jnp.stack(_apply(matrix, by_row))  # [P, 2, P, 2, I, O]
  w = w.reshape(2 * _taps(size), 2 * _taps(size), inputs, outputs)
  return w[:size, :size]


def _sum_outputs(
  products: Sequence[jax.Array], shape: Sequence[int], size: int
) -> jax.Array:
  """Applies A to the products: arrays [T, O] -> [B, H/2, W/2, O]."""
  matrix, _, _ = _FILTERS[_taps(size)]
  batch, height, width, features = shape
  rows, columns = -(-height // _TILE), -(-width // _TILE)
  num = len(matrix[0])
  products = [p.reshape(batch, rows, columns, features) for p in products]
  by_column = [
    _apply(matrix, [products[num * i + j] for i in range(num)])
    for j in range(num)
  ]  # [P + 1][tile row]
  tiles = [
    jnp.stack(_apply(matrix, [column[row] for column in by_column]), 3)
    for row in range(_TILE)
  ]
  y = jnp.stack(tiles, 2)  # [B, tiles, tile row, tiles, tile column, O]
  y = y.reshape(batch, _TILE * rows, _TILE * columns, features)
  return y[:, :height, :width]


def _output_products(y: jax.Array, size: int) -> list[jax.Array]:
  """The transpose of `_sum_outputs`: [B, H/2, W/2, O] -> arrays [T, O]."""
  matrix, _, _ = _FILTERS[_taps(size)]
  matrix = _transposed(matrix)
  batch, height, width, features = y.shape
  rows, columns = -(-height // _TILE), -(-width // _TILE)
  # An extra row of tiles makes sure that there is padding, see `_padded`. It
  # costs less than computing y again for each factor.
  edges = ((0, _TILE * (rows + 1) - height), (0, _TILE * columns - width))
  padded = _padded(y, ((0, 0), *edges, (0, 0))).reshape(
    batch, rows + 1, _TILE, columns, _TILE, features
  )[:, :rows]
  return [
    product.reshape(-1, features).astype(y.dtype)
    for row in _apply(matrix, [padded[:, :, i] for i in range(_TILE)])
    for product in _apply(matrix, [row[:, :, :, i] for i in range(_TILE)])
  ]


def supports(kernel_size: int) -> bool:
  """Whether there are filters for a kernel of this side."""
  return kernel_size in (4, 5, 6)


def strided(x: jax.Array, w: jax.Array) -> jax.Array:
  """S(x, w), [B, H, W, I] and [k, k, I, O] -> [B, H/2, W/2, O]."""
  batch, height, width, _ = x.shape
  size, _, _, outputs = w.shape
  products = [
    _multiply(u, v)
    for u, v in zip(_image_products(x, size), _kernel_products(w), strict=True)
  ]
  shape = (batch, height // 2, width // 2, outputs)
  return _sum_outputs(products, shape, size).astype(x.dtype)


def transposed(y: jax.Array, w: jax.Array) -> jax.Array:
  """T(y, w), [B, H/2, W/2, O] and [k, k, I, O] -> [B, H, W, I]."""
  batch, height, width, _ = y.shape
  size, _, inputs, _ = w.shape
  products = [
    _multiply(u, v.T)
    for u, v in zip(_output_products(y, size), _kernel_products(w), strict=True)
  ]
  shape = (batch, 2 * height, 2 * width, inputs)
  return _sum_image(products, shape, size).astype(y.dtype)


def kernel_gradient(x: jax.Array, y: jax.Array, size: int) -> jax.Array:
  """K(x, y), [B, H, W, I] and [B, H/2, W/2, O] -> [k, k, I, O]."""
  products = [
    _multiply(_turned(u), v)
    for u, v in zip(
      _image_products(x, size), _output_products(y, size), strict=True
    )
  ]
  shape = (size, size, x.shape[-1], y.shape[-1])
  return _sum_kernel(products, shape).astype(x.dtype)
