"""Jitted encoding, decoding and counting of codes.

Training uses them in reports and pictures; the commands use them on a trained
model.

Dimensions: N images, H height, W width, C channels, S and T sides of the grid
of cells, L codes of a cell, K codes there are.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.data.source import Source
from vq_flax import inference
from vq_flax.state import Params
from vq_flax.vq import VQ

NUM_WATCHED = 500  # training images that reports count codes of
_CHUNK = 50


@functools.partial(jax.jit, static_argnums=0)
def observe(vq: VQ, key: jax.Array, images: jax.Array) -> jax.Array:
  """Draws the observations x of images uint8 [N, H, W, C]; consumes the key."""
  return vq.observe(key, images, vq.dtype)


@functools.partial(jax.jit, static_argnums=0)
def observe_by_number(
  vq: VQ, key: jax.Array, images: jax.Array, numbers: jax.Array
) -> jax.Array:
  """Draws observations, each a function of the key and its number alone.

  Args:
    vq: the static part.
    key: not consumed.
    images: uint8 [N, H, W, C].
    numbers: int32 [N].

  Returns:
    x [N, H, W, C].
  """
  return jax.vmap(lambda key, image: vq.observe(key, image[None], vq.dtype)[0])(
    prng.by_number(key, numbers), images
  )


@functools.partial(jax.jit, static_argnums=0)
def encode(vq: VQ, params: Params, x: jax.Array) -> jax.Array:
  """The codes of x [N, H, W, C] from `observe`, int32 [N, S, T, L]."""
  return inference.encode(vq, params, x).codes


@functools.partial(jax.jit, static_argnums=0)
def decode(vq: VQ, params: Params, codes: jax.Array) -> jax.Array:
  """Mean images of codes [N, S, T, L], uint8 [N, H, W, C]."""
  vectors = vq.quantiser.vectors(params.get('codebooks'), codes)
  outputs = inference.decode(vq, params, vectors.astype(vq.dtype))
  return images_lib.from_unit(vq.likelihood.mean(outputs))


@functools.partial(jax.jit, static_argnums=0)
def between(
  vq: VQ, params: Params, start: jax.Array, end: jax.Array, shares: jax.Array
) -> jax.Array:
  """Codes [N, S, T, L] on the lines between the cells of two images.

  Args:
    vq: the static part.
    params: of networks and codebooks.
    start: x [N, H, W, C] from `observe`.
    end: of the same shape.
    shares: [N], 0 for the codes of `start`, 1 for those of `end`.
  """
  encoder = {'params': params['encoder']}
  first, last = (vq.encoder.apply(encoder, x) for x in (start, end))
  shares = shares[:, None, None, None]
  cells = (1 - shares) * first + shares * last
  return vq.quantiser.quantise(params.get('codebooks'), cells).codes


@functools.partial(jax.jit, static_argnums=0)
def distortion(
  vq: VQ, params: Params, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """-log Pr(x|z) of x [N, H, W, C] in nats, [N], and its codes z."""
  quantised = inference.encode(vq, params, x)
  outputs = inference.decode(vq, params, quantised.vectors)
  return -vq.likelihood.log_prob(outputs, x), quantised.codes


@functools.partial(jax.jit, static_argnums=0)
def code_use(vq: VQ, params: Params, x: jax.Array) -> dict[str, jax.Array]:
  """Measures how the codes are used.

  Args:
    vq: the static part.
    params: of networks and codebooks.
    x: [N, H, W, C] from `observe`, several hundred images.

  Returns:
    `codes_used`, the share of codes that occur at all, and `code_perplexity`;
    both are those of the worst codebook.
  """
  codes = jax.lax.map(
    lambda image: inference.encode(vq, params, image[None]).codes[0],
    x,
    batch_size=_CHUNK,  # distances to many codes take much memory
  )
  found = inference.counts(codes, vq.quantiser.num_codes)
  return {
    'codes_used': jnp.min(jnp.mean(found > 0, axis=1)),
    'code_perplexity': jnp.min(inference.perplexity(found)),
  }


def spread(length: int, num: int) -> np.ndarray:
  """Numbers of images, evenly spread over a source, int32 [num].

  The images of a folder are ordered by class; the first ones would be of few.
  There are no more than the source has.

  Args:
    length: of the source.
    num: at most this many.
  """
  num = min(num, length)
  return np.linspace(0, length - 1, num).round().astype(np.int32)


def watched(vq: VQ, root: jax.Array, source: Source) -> jax.Array:
  """The training images used in reports and pictures, observed once.

  Args:
    vq: the static part.
    root: the run's root key, not consumed.
    source: from `observations.prepare_source`.

  Returns:
    x [N, H, W, C]; N is at most NUM_WATCHED.
  """
  numbers = spread(len(source), NUM_WATCHED)
  images = np.stack([source[int(i)]['image'] for i in numbers])
  return observe(vq, prng.stream(root, 'observe'), images)
