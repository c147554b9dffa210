"""Measures how samples differ from one another and from real examples.

Pixel noise would count as variety, so images are compared by their coarse
content: averages over cells of a grid of at most 8x8. What the grid does not
see, fine detail, is measured apart.

Dimensions: N examples, M reference examples, H height, W width, C channels,
D features.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.cpu import compiler
from common_flax.latents import slerp
from gan_flax import batches
from gan_flax import generation
from gan_flax.gan import for_whole_batches
from gan_flax.gan import GAN
from gan_flax.state import GANState

NUM_WATCHED = 64  # samples; 100 train steps draw 100 times as many
_WEIGHT = 0.25  # interpolation weight of the other latent in `latent_response`
_GRID = 8  # cells along a side, at most
_TINY = 1e-6  # keeps divisors positive where real examples are all the same


class Reference(NamedTuple):
  """What real examples are like; compared with samples at each report."""

  features: jax.Array  # [M, D] of the real examples
  spread: jax.Array  # [], mean distance between them
  class_spread: jax.Array | None  # [], the same within classes, if known
  roughness: jax.Array  # [], their mean Laplacian energy; 0 of points


def features(x: jax.Array) -> jax.Array:
  """The coarse content of examples, [N, D].

  Args:
    x: images [N, H, W, C], which become averages over the cells of a grid, or
      points [N, 2], which stay as they are.
  """
  if x.ndim == 2:
    return x
  num, *sides, channels = x.shape
  cells = [_num_cells(side) for side in sides]
  # Sides that do not split into cells are interpolated first.
  sides = [-(-side // k) * k for side, k in zip(sides, cells, strict=True)]
  if x.shape[1:3] != tuple(sides):
    x = jax.image.resize(x, (num, *sides, channels), 'linear')
  (rows, columns), (height, width) = cells, sides
  x = x.reshape(
    *(num, rows, height // rows, columns, width // columns, channels)
  )
  return x.mean(axis=(2, 4)).reshape(num, -1)


def _num_cells(side: int) -> int:
  """Cells along a side: up to 8 that divide it; 8 if fewer than 4 would."""
  if side <= _GRID:
    return side
  return next((k for k in range(_GRID, 3, -1) if side % k == 0), _GRID)


def roughness(x: jax.Array) -> jax.Array:
  """Mean squared difference of pixels from their neighbours' mean, [].

  Args:
    x: images [N, H, W, C], 3 pixels a side or larger; points give 0.
  """
  if x.ndim == 2:
    return jnp.zeros((), x.dtype)
  neighbours = (
    x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
  )
  return jnp.mean(jnp.square(x[:, 1:-1, 1:-1] - neighbours / 4))


def distances(x: jax.Array, y: jax.Array) -> jax.Array:
  """Euclidean distances between the rows of [N, D] and [M, D], [N, M]."""
  # Centring reduces the rounding error of the products below.
  centre = y.mean(axis=0, keepdims=True)
  x, y = x - centre, y - centre
  products = jnp.matmul(x, y.T, precision='highest')
  squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None]
  return jnp.sqrt(jnp.maximum(squares - 2 * products, 0))


def mean_distance(x: jax.Array, labels: jax.Array | None = None) -> jax.Array:
  """Mean distance between pairs of different examples, a scalar.

  Args:
    x: [N, ...] with N at least 2.
    labels: int32 [N]; given, only pairs with the same label count, of which
      there must be one.
  """
  x = x.reshape(len(x), -1)
  # Rounding would give each example a distance from itself.
  counts = 1 - jnp.eye(len(x), dtype=x.dtype)
  if labels is not None:
    counts = counts * (labels[:, None] == labels[None])
  return jnp.sum(distances(x, x) * counts) / jnp.sum(counts)


def reference(
  gan: GAN, examples: np.ndarray, labels: np.ndarray | None = None
) -> Reference:
  """Measures real examples.

  Args:
    gan: the static part.
    examples: uint8 [M, H, W, C], which are scaled to [-1, 1] like the
      generator's samples, or points [M, 2].
    labels: int32 [M] if the GAN is conditional; the spread within classes is
      unknown without them, or if no two examples share one.
  """
  if labels is not None and len(np.unique(labels)) == len(labels):
    labels = None  # no two examples of a class to compare

  def compute(x: jax.Array, labels: jax.Array | None) -> Reference:
    x = x if gan.is_of_points else images_lib.to_signed(x)
    coarse = features(x)
    spread = mean_distance(coarse)
    within = None if labels is None else mean_distance(coarse, labels)
    return Reference(coarse, spread, within, roughness(x))

  options = compiler.for_single_run()
  return jax.jit(compute, compiler_options=options)(examples, labels)


@functools.partial(jax.jit, static_argnums=0)
def measure(
  gan: GAN, real: Reference, root: jax.Array, state: GANState
) -> dict[str, jax.Array]:
  """Compares samples at fixed latents with real examples.

  Args:
    gan: the static part.
    real: of `reference`.
    root: the run's root key, not consumed.
    state: the state; its generator is applied in train mode.

  Returns:
    `diversity`, the mean distance between samples, and `latent_response`, the
    mean distance by which a sample moves when its latent moves a quarter of the
    way to another latent, both relative to the mean distance between real
    examples; of images `mismatch`, in [0, 1], how far samples lie from real
    ones, and `roughness`, the energy of their fine detail relative to that of
    real images; and of a conditional GAN of fewer than 64 classes
    `class_diversity`, as `diversity` but within classes. Distances are those of
    `features`.

    `mismatch` is the energy distance over the mean distance between a sample
    and a real example, 1 - (E|X - X'| + E|Y - Y'|) / 2 E|X - Y|: 0 if both have
    the same distribution (Székely & Rizzo 2013, "Energy statistics").
  """
  key, other_key = jax.random.split(prng.stream(root, 'watch'))
  latents = batches.draw_latents(gan, key, NUM_WATCHED)
  others = batches.draw_latents(gan, other_key, NUM_WATCHED)
  shares = jnp.full(NUM_WATCHED, _WEIGHT, gan.dtype)
  moved = jax.vmap(slerp)(latents, others, shares)
  labels = generation.class_by_number(gan, jnp.arange(NUM_WATCHED))

  def draw(latents: jax.Array) -> jax.Array:
    return _samples(gan, state, latents, labels).astype(real.features.dtype)

  # One application of the generator compiles faster than two.
  samples = jax.vmap(draw)(jnp.stack([latents, moved]))
  x, moved_x = jax.vmap(features)(samples)
  spread = jnp.maximum(real.spread, _TINY)
  within = mean_distance(x)
  measured = {
    'diversity': within / spread,
    'latent_response': jnp.linalg.norm(moved_x - x, axis=-1).mean() / spread,
  }
  if not gan.is_of_points:
    between = jnp.mean(distances(x, real.features))
    same = (within + real.spread) / (2 * jnp.maximum(between, _TINY))
    roughest = jnp.maximum(real.roughness, _TINY)
    measured['mismatch'] = 1 - same
    measured['roughness'] = roughness(samples[0]) / roughest
  if real.class_spread is not None and gan.num_classes < NUM_WATCHED:
    of_real = jnp.maximum(real.class_spread, _TINY)
    measured['class_diversity'] = mean_distance(x, labels) / of_real
  return measured


def _samples(
  gan: GAN, state: GANState, latents: jax.Array, labels: jax.Array | None
) -> jax.Array:
  """Samples in train mode, normalised by the statistics of this batch."""
  # They are not split over devices, even if training batches are.
  generator = for_whole_batches(gan.generator)
  samples, _ = generator.apply(
    {
      'params': state.generator.params,
      'batch_stats': state.generator.batch_stats,
    },
    latents,
    labels,
    train=True,
    mutable=['batch_stats'],
  )
  return samples
