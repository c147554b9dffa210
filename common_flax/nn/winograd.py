"""Stride-2 convolutions with fewer multiplications (Winograd 1980).

Split into its even and odd rows and columns, an image of I features is one of
4 I features at half the size, on which a stride-2 kernel of side k is a
stride-1 kernel of side P = ceil(k / 2). Lavin and Gray (2015, arXiv:1509.09308)
compute two neighbouring outputs of P taps from P + 1 products instead of 2 P:

  y = A [(G w) * (B x)]        A [2, P+1], G [P+1, P], B [P+1, P+1]

and in two dimensions a tile of 2x2 outputs from (P + 1)^2 products: 9 instead
of 16 for a kernel of side 4, 16 instead of 25 (36 with zero taps) for side 5.
Each product is a matrix product over all tiles of a batch. With such small
tiles the sums lose no more to rounding than a direct convolution's. Sums are
float32 where the arrays are bfloat16; the factors of a product are rounded.

`strided`, `transposed` and `kernel_gradient` are the functions S, T and K of
`common_flax.nn.conv`; T and K are made of the transposes of A, G and B. What
one of them does to an image is done again by another: within one compiled
function XLA does it once.

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
  """The matrix times a column of arrays; its zeros and ones cost nothing."""
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
  """In the type that sums are taken in."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _padded(x: jax.Array, edges: Sequence[tuple[int, int]]) -> jax.Array:
  """Padded, written out once, and wide.

  XLA for CPUs fuses what an array is made of into each of the operations that
  take it, so that each factor would make it anew, but it does not fuse padding.
  Barriers are gone by then; this one has bfloat16 written as bfloat16.
  """
  return _wide(lax.optimization_barrier(jnp.pad(x, edges)))


def _multiply(left: jax.Array, right: jax.Array) -> jax.Array:
  return jnp.matmul(
    left,
    right,
    preferred_element_type=jnp.promote_types(left.dtype, jnp.float32),
  )


def _turned(x: jax.Array) -> jax.Array:
  """x.T; of bfloat16 written out, as a CPU's fast products take it."""
  return lax.optimization_barrier(x.T) if x.dtype == jnp.bfloat16 else x.T


def _taps(kernel_size: int) -> int:
  return (kernel_size + 1) // 2


def _tiles(size: int) -> int:
  """Tiles along a side of the image."""
  return -(-size // (2 * _TILE))


def _image_products(x: jax.Array, size: int) -> list[jax.Array]:
  """B x: the image's factors of the products, each [T, 4 I]."""
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
  """The transpose of `_image_products`: [T, 4 I] each to [B, H, W, I]."""
  _, _, matrix = _FILTERS[_taps(size)]
  matrix = _transposed(matrix)
  batch, height, width, features = shape
  rows, columns = _tiles(height), _tiles(width)
  num = len(matrix)

  def overlap(taps, axis):
    """Taps of all tiles of a row or column to places in a tile and one more."""
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
  """G w: the kernel's factors of the products, each [4 I, O]."""
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
  """The transpose of `_kernel_products`: [4 I, O] each to [k, k, I, O]."""
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
  """A of the products, each [T, O]: [B, H/2, W/2, O]."""
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
  """The transpose of `_sum_outputs`: [B, H/2, W/2, O] to [T, O] each."""
  matrix, _, _ = _FILTERS[_taps(size)]
  matrix = _transposed(matrix)
  batch, height, width, features = y.shape
  rows, columns = -(-height // _TILE), -(-width // _TILE)
  # One row of tiles more than needed, so that even sizes are padded, too. It
  # costs less than to make y anew for each factor.
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
  """Whether fewer multiplications are needed for a kernel of this side."""
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
