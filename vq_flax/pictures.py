"""Pictures of a model in training: reconstructions.

Dimensions: N images, H height, W width, C channels.
"""

import jax
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.data.source import Source
from common_flax.latents import chunks_of_numbers
from vq_flax import generation
from vq_flax.state import Params
from vq_flax.state import VQState
from vq_flax.vq import VQ

_COLUMNS = 8
_NUM_IMAGES = 4 * _COLUMNS


def draw(
  vq: VQ, watched: jax.Array, unused_root: jax.Array, state: VQState
) -> np.ndarray:
  """Draws rows of images above rows of their reconstructions.

  Args:
    vq: the static part.
    watched: x [N, H, W, C], the first of which are drawn.
    unused_root: the run's root key.
    state: the state.

  Returns:
    A grid, uint8 [H', W', C].
  """
  x = watched[:_NUM_IMAGES]
  decoded = np.asarray(_reconstruct(vq, state.ema_params, x))
  originals = np.asarray(images_lib.from_unit(x))
  rows = []
  for start in range(0, len(x), _COLUMNS):
    here = slice(start, start + _COLUMNS)
    rows += [originals[here], decoded[here]]
  return images_lib.grid(np.concatenate(rows))


def _reconstruct(vq: VQ, params: Params, x: jax.Array) -> jax.Array:
  """Mean images of the codes of x, uint8 [N, H, W, C]."""
  return generation.decode(vq, params, generation.encode(vq, params, x))


def draw_scored(
  vq: VQ, source: Source, root: jax.Array, state: VQState, num: int
) -> np.ndarray:
  """Reconstructs training images to score, uint8 [num, H, W, C]."""
  key = prng.stream(root, 'evaluate')
  return reconstructions(vq, state.ema_params, source, key, num)


def reconstructions(
  vq: VQ, params: Params, source: Source, key: jax.Array, num: int
) -> np.ndarray:
  """Reconstructs images of a source, uint8 [num, H, W, C].

  Args:
    vq: the static part.
    params: of networks and codebooks.
    source: of images, evenly spread ones of which are taken; all of them and
      then the first again, if it has fewer than `num`.
    key: of random observations, not consumed.
    num: number of images.
  """
  chosen = np.resize(generation.spread(len(source), num), num)
  found = np.empty((num, *vq.image_shape), np.uint8)
  for places in chunks_of_numbers(num):
    numbers = chosen[np.minimum(places, num - 1)]
    images = np.stack([source[int(i)]['image'] for i in numbers])
    x = generation.observe_by_number(vq, key, images, places)
    here = found[places[0] : places[-1] + 1]
    here[...] = np.asarray(_reconstruct(vq, params, x))[: len(here)]
  return found
