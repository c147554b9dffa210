"""Nearest-neighbour metrics between two sets of features.

Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991), and
density and coverage (Naeem et al. 2020, arXiv:2002.09797). Each feature is the
centre of a ball that reaches to its k-th nearest neighbour in its own set; the
metrics count which features of the other set lie in which balls. A feature on
the surface of a ball lies outside, as in Naeem et al.'s code; Kynkäänniemi et
al. count it as inside, which differs only when distances are equal.

Distances are computed on the device in tiles of fixed size, so memory does not
grow with the number of pairs. They are computed in float64 from centred
features, so that |x|² + |y|² - 2 x·y does not lose digits to cancellation.

Dimensions: N real and M generated features, F coordinates; R rows and C columns
of a tile, T tiles; k neighbours.
"""

from collections.abc import Iterator
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_ROWS = 256  # R
_COLUMNS = 1024  # C
# Squared distances that differ by less count as equal: rounding makes d(x, y)
# differ slightly from d(y, x).
_RELATIVE_ERROR = 1e-9


class ManifoldMetrics(NamedTuple):
  """Precision, recall, density and coverage.

  All are near 1 if both sets have the same distribution; density may exceed 1.
  """

  precision: float  # share of generated features in the ball of a real one
  recall: float  # share of real features in the ball of a generated one
  density: float  # mean number of real balls a generated feature is in, over k
  coverage: float  # share of real features with a generated one in their ball


class _Tiles(NamedTuple):
  """Features in tiles of columns; the padding is infinitely far away."""

  features: jax.Array  # float64 [T, C, F]
  squares: jax.Array  # their squared norms [T, C]


def manifold_metrics(
  real: np.ndarray, generated: np.ndarray, *, num_neighbours: int
) -> ManifoldMetrics:
  """Computes precision, recall, density and coverage.

  Args:
    real: [N, F].
    generated: [M, F].
    num_neighbours: k, less than N and M.

  Raises:
    ValueError: if a set has too few features, the dimensions differ, or a
      feature is not finite.
  """
  if num_neighbours >= min(len(real), len(generated)):
    raise ValueError(
      f'{num_neighbours} neighbours need more than {len(real)} real and '
      f'{len(generated)} generated features'
    )
  with jax.enable_x64(True):
    real, generated = _centred(real, generated)
    real_radii = _squared_radii(real, num_neighbours)
    generated_radii = _squared_radii(generated, num_neighbours)
    tiles = _tiles(real)
    columns = _in_tiles(real_radii, -np.inf)
    counts = []
    covered = np.zeros(columns.shape, bool)
    recalled = np.zeros(columns.shape, bool)
    for rows, radii in _row_blocks(generated, generated_radii):
      found = jax.device_get(_ball_membership(rows, radii, tiles, columns))
      counts.append(found[0])
      covered |= found[1]
      recalled |= found[2]
  num_balls = np.concatenate(counts)[: len(generated)]
  return ManifoldMetrics(
    precision=float(np.mean(num_balls > 0)),
    recall=float(recalled.ravel()[: len(real)].mean()),
    density=float(num_balls.mean() / num_neighbours),
    coverage=float(covered.ravel()[: len(real)].mean()),
  )


def nearest(
  queries: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the nearest point of each query.

  Args:
    queries: [M, F].
    points: [N, F].

  Returns:
    Euclidean distances float64 [M], and indices of the points int64 [M].

  Raises:
    ValueError: if the dimensions differ, or a feature is not finite.
  """
  with jax.enable_x64(True):
    points, queries = _centred(points, queries)
    tiles = _tiles(points)
    found = [
      jax.device_get(_closest(rows, tiles))
      for rows, _ in _row_blocks(queries, np.zeros(len(queries)))
    ]
  squares, indices = (
    np.concatenate(parts) for parts in zip(*found, strict=True)
  )
  return np.sqrt(squares[: len(queries)]), indices[: len(queries)]


def _centred(
  reference: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Both sets in float64, minus the mean of the first.

  Raises:
    ValueError: if the dimensions differ, or a feature is not finite.
  """
  if reference.shape[1] != other.shape[1]:
    raise ValueError(
      f'features of {reference.shape[1]} and {other.shape[1]} dimensions '
      'cannot be compared'
    )
  if not (np.isfinite(reference).all() and np.isfinite(other).all()):
    raise ValueError('the features are not finite')
  mean = np.mean(reference, axis=0, dtype=np.float64)
  return reference - mean, other - mean


def _in_tiles(values: np.ndarray, fill: float) -> np.ndarray:
  """[N, ...] -> [T, C, ...], padded with `fill`."""
  widths = ((0, -len(values) % _COLUMNS), *((0, 0),) * (values.ndim - 1))
  padded = np.pad(values, widths, constant_values=fill)
  return padded.reshape(-1, _COLUMNS, *values.shape[1:])


def _tiles(features: np.ndarray) -> _Tiles:
  squares = np.sum(features**2, axis=1)
  return _Tiles(
    jnp.asarray(_in_tiles(features, 0.0)),
    jnp.asarray(_in_tiles(squares, np.inf)),
  )


def _row_blocks(
  features: np.ndarray, radii: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields features [R, F] and squared radii [R]; the last block is padded."""
  for start in range(0, len(features), _ROWS):
    rows = features[start : start + _ROWS]
    missing = _ROWS - len(rows)
    yield (
      np.pad(rows, ((0, missing), (0, 0))),
      np.pad(
        radii[start : start + _ROWS], (0, missing), constant_values=-np.inf
      ),
    )


def _squared_distances(
  rows: jax.Array, features: jax.Array, squares: jax.Array
) -> jax.Array:
  """[R, F] and [C, F] -> [R, C], at least 0."""
  products = jnp.matmul(rows, features.T, precision=jax.lax.Precision.HIGHEST)
  own = jnp.sum(rows**2, axis=1)[:, None]
  return jnp.maximum(own + squares[None] - 2 * products, 0)


@functools.partial(jax.jit, static_argnums=2)
def _kth_smallest(rows: jax.Array, tiles: _Tiles, k: int) -> jax.Array:
  """The k-th smallest squared distance from each row, [R]."""

  def merge(best: jax.Array, tile: _Tiles) -> tuple[jax.Array, None]:
    distances = _squared_distances(rows, *tile)
    candidates = jnp.concatenate([best, _smallest(distances, k)], axis=1)
    return jnp.sort(candidates, axis=1)[:, :k], None

  start = jnp.full((len(rows), k), jnp.inf, rows.dtype)
  best, _ = jax.lax.scan(merge, start, tiles)
  return best[:, -1]


def _smallest(values: jax.Array, k: int) -> jax.Array:
  """The k smallest values of each row in ascending order, [R, C] -> [R, k].

  Takes one distinct value at a time, with its multiplicity. On a CPU, k passes
  over a row are faster than sorting it.
  """
  found = jnp.full((len(values), k), jnp.inf, values.dtype)
  last = jnp.full((len(values), 1), -jnp.inf, values.dtype)
  num = jnp.zeros((len(values), 1), jnp.int32)
  for _ in range(k):
    beyond = jnp.where(values > last, values, jnp.inf)
    last = jnp.min(beyond, axis=1, keepdims=True)
    times = jnp.sum(values == last, axis=1, keepdims=True, dtype=jnp.int32)
    places = jnp.arange(k, dtype=jnp.int32)[None]
    is_here = (places >= num) & (places < num + times)
    found = jnp.where(is_here, last, found)
    num += times
  return found


def _squared_radii(features: np.ndarray, num_neighbours: int) -> np.ndarray:
  """Squared distances to the k-th nearest other feature, float64 [N]."""
  tiles = _tiles(features)
  found = [
    # k + 1, because each feature is its own nearest, at distance 0.
    jax.device_get(_kth_smallest(rows, tiles, num_neighbours + 1))
    for rows, _ in _row_blocks(features, np.zeros(len(features)))
  ]
  radii = np.concatenate(found)[: len(features)]
  return radii * (1 - _RELATIVE_ERROR)


@jax.jit
def _ball_membership(
  rows: jax.Array, radii: jax.Array, tiles: _Tiles, columns: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Counts which features lie in which balls.

  Args:
    rows: [R, F].
    radii: squared radii of the rows [R].
    tiles: T tiles of columns.
    columns: squared radii of the columns [T, C].

  Returns:
    The number of columns whose ball contains each row, int32 [R]; whether each
    column's ball contains any row, bool [T, C]; and whether each column lies in
    any row's ball, bool [T, C].
  """

  def visit(
    num: jax.Array, tile: tuple[_Tiles, jax.Array]
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    here, its_radii = tile
    distances = _squared_distances(rows, *here)
    # Padding rows lie in no ball.
    within = (distances < its_radii[None]) & (radii[:, None] > -jnp.inf)
    num += jnp.sum(within, axis=1, dtype=jnp.int32)
    recalled = jnp.any(distances < radii[:, None], axis=0)
    return num, (jnp.any(within, axis=0), recalled)

  start = jnp.zeros(len(rows), jnp.int32)
  num, (covered, recalled) = jax.lax.scan(visit, start, (tiles, columns))
  return num, covered, recalled


@jax.jit
def _closest(rows: jax.Array, tiles: _Tiles) -> tuple[jax.Array, jax.Array]:
  """The smallest squared distance from each row [R], and its column's index."""

  def visit(
    best: tuple[jax.Array, jax.Array], tile: tuple[_Tiles, jax.Array]
  ) -> tuple[tuple[jax.Array, jax.Array], None]:
    here, number = tile
    distances = _squared_distances(rows, *here)
    smallest = jnp.min(distances, axis=1)
    index = jnp.argmin(distances, axis=1) + number * _COLUMNS
    is_closer = smallest < best[0]
    return (
      jnp.where(is_closer, smallest, best[0]),
      jnp.where(is_closer, index, best[1]),
    ), None

  start = (jnp.full(len(rows), jnp.inf), jnp.zeros(len(rows), jnp.int64))
  numbers = jnp.arange(len(tiles.features))
  best, _ = jax.lax.scan(visit, start, (tiles, numbers))
  return best
