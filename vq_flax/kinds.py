"""Kinds of pictures that a trained model draws, at most 64 images at a time.

Dimensions: N images, S and T sides of the grid of cells, L codes of a cell.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.data.source import Source
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from vq_flax import generation
from vq_flax import inference
from vq_flax.prior.trained import TrainedPrior
from vq_flax.trained import TrainedVQ

COLUMNS = 8
_COUNTED = 500  # images of the split that order a codebook


def _chosen(source: Source, root: jax.Array, numbers: np.ndarray) -> np.ndarray:
  """The places in the split of images in a random order, by number."""
  seed = np.asarray(jax.random.key_data(root))
  order = np.random.default_rng(seed).permutation(len(source))
  return order[numbers % len(source)]


def _observed(
  trained: TrainedVQ, source: Source, root: jax.Array, numbers: np.ndarray
) -> jax.Array:
  """Observations of images of the split in a random order, by number."""
  chosen = _chosen(source, root, numbers)
  images = np.stack([source[int(i)]['image'] for i in chosen])
  key = prng.stream(root, 'observe')
  return generation.observe_by_number(trained.vq, key, images, numbers)


def reconstructions(
  trained: TrainedVQ, source: Source, root: jax.Array, num: int
) -> Iterator[jax.Array]:
  """Yields images, each followed by its reconstruction.

  The arguments are those of all kinds.

  Args:
    trained: the model.
    source: of the images.
    root: of all draws, not consumed.
    num: number of images.
  """
  vq, params = trained.vq, trained.params
  for places in chunks_of_numbers(num):
    x = _observed(trained, source, root, places[::2] // 2)
    decoded = generation.decode(vq, params, generation.encode(vq, params, x))
    pairs = jnp.stack([images_lib.from_unit(x), decoded], axis=1)
    yield pairs.reshape(CHUNK, *vq.image_shape)[: num - places[0]]


def interpolation(
  trained: TrainedVQ, source: Source, root: jax.Array, num: int
) -> Iterator[jax.Array]:
  """Yields rows of 8 on the line between the cells of two images."""
  vq, params = trained.vq, trained.params
  for places in chunks_of_numbers(num):
    rows, columns = np.divmod(places, COLUMNS)
    ends = [_observed(trained, source, root, 2 * rows + i) for i in (0, 1)]
    codes = generation.between(
      vq, params, *ends, jnp.asarray(columns / (COLUMNS - 1), vq.dtype)
    )
    yield generation.decode(vq, params, codes)[: num - places[0]]


def inpainting(
  prior: TrainedPrior,
  model: TrainedVQ,
  source: Source,
  root: jax.Array,
  num: int,
  temperature: float,
  top_p: float,
) -> Iterator[jax.Array]:
  """Yields rows of an image and of 7 others that share its upper codes.

  Args:
    prior: draws the lower codes.
    model: the prior's model.
    source: of the images.
    root: of all draws, not consumed.
    num: number of images.
    temperature: see `drawing.draw`.
    top_p: see `drawing.draw`.
  """
  vq = model.vq
  is_known = np.zeros((*vq.grid, vq.quantiser.codes_per_cell), bool)
  is_known[: (vq.grid[0] + 1) // 2] = True
  key = prng.stream(root, 'sample')
  for places in chunks_of_numbers(num):
    rows, columns = np.divmod(places, COLUMNS)
    x = _observed(model, source, root, rows)
    codes = generation.encode(vq, model.params, x)
    labels = None
    if prior.num_classes is not None:
      labels = np.array(
        [source[int(i)]['label'] for i in _chosen(source, root, rows)], np.int32
      )
    drawn = prior.complete(
      key, codes, places, labels, is_known, temperature, top_p
    )
    is_given = (columns == 0)[:, None, None, None]
    shown = jnp.where(is_given, codes, drawn)
    yield generation.decode(vq, model.params, shown)[: num - places[0]]


def codebook(
  trained: TrainedVQ, source: Source, root: jax.Array, num: int
) -> Iterator[jax.Array]:
  """Yields images with a code of the first codebook in the middle.

  The most frequent code comes first. It fills all other cells, together with
  the most frequent codes of the other codebooks.
  """
  vq, params = trained.vq, trained.params
  num_images = min(_COUNTED, len(source))
  found = 0
  for numbers in chunks_of_numbers(num_images):
    x = _observed(trained, source, root, numbers)
    codes = generation.encode(vq, params, x)
    found += np.asarray(inference.counts(codes, vq.quantiser.num_codes))
  by_use = np.argsort(-found[0], kind='stable')
  others = found.argmax(axis=1).astype(np.int32)
  for places in chunks_of_numbers(num):
    codes = np.zeros((CHUNK, *vq.grid, vq.quantiser.codes_per_cell), np.int32)
    codes[...] = others
    codes[:, vq.grid[0] // 2, vq.grid[1] // 2, 0] = by_use[places % len(by_use)]
    yield generation.decode(vq, params, codes)[: num - places[0]]
