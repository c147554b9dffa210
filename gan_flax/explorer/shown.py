"""What the explorer shows of a trained GAN, as functions of latents and images.

Dimensions: N samples, M training images, K directions, D draws, F features, H
height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
import math

from etils import epath
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import data
from common_flax import images as images_lib
from common_flax import latents as latents_lib
from common_flax import prng
from common_flax.training import seeds as seeds_lib
from common_flax.workdir import layout as workdir_lib
from common_flax.workdir import stored_config
from common_flax.workdir.checkpoints import STATE
from gan_flax import batches
from gan_flax import generation
from gan_flax.gan import create_gan
from gan_flax.gan import GAN
from gan_flax.models.discriminators import GROUP_SIZE
from gan_flax.state import BatchStats
from gan_flax.state import NetState
from gan_flax.state import Params
from gan_flax.trained import init_states
from gan_flax.trained import load
from gan_flax.trained import Sampler

NUM_DIRECTIONS = 8
_MAX_TRAINING_IMAGES = 10_000
_TRAINING_BYTES = 2**28  # in memory
_COMPARED_AT_ONCE = 64
_NUM_DRAWS = 512


# The static part of each run, by folder and config: what is compiled for one
# checkpoint then serves the others.
_GANS: dict[tuple[epath.Path, str], GAN] = {}


@functools.lru_cache(maxsize=8)  # all visitors share what does not change
def sampler_of(workdir: epath.Path, step: int) -> Sampler:
  """The generator of one checkpoint; of several seeds, the first."""
  sampler = load(workdir, step=step)
  key = workdir, stored_config.to_json(sampler.config)
  return dataclasses.replace(sampler, gan=_GANS.setdefault(key, sampler.gan))


def ready_sampler_of(workdir: epath.Path, step: int) -> Sampler:
  """The same, once the program that draws a sample is compiled."""
  sampler = sampler_of(workdir, step)
  if not sampler.gan.is_of_points:
    label = np.zeros(1, np.int32) if sampler.gan.is_conditional else None
    images_of(sampler, latents_of_seeds(sampler, [0]), label)
  return sampler


@functools.lru_cache(maxsize=2)
def discriminator_of(workdir: epath.Path, step: int) -> NetState:
  """The discriminator of one checkpoint; of several seeds, the first.

  Raises:
    UserError: if the checkpoint cannot be read.
  """
  config = sampler_of(workdir, step).config
  roots = seeds_lib.root_keys(config.seed, config.num_seeds)
  _, _, state = workdir_lib.restore(
    workdir,
    STATE,
    config,
    create_gan,
    lambda gan: init_states(gan, roots),
    step,
  )
  return seeds_lib.member(state.discriminator, 0, config.num_seeds)


@functools.lru_cache(maxsize=1)
def training_images_of(workdir: epath.Path, step: int) -> np.ndarray:
  """The first training images of a run, uint8 [M, H, W, C].

  Raises:
    UserError: if the data is not there any more.
  """
  dataset = sampler_of(workdir, step).config.dataset
  source = data.load(dataset, dataset.split)
  fitting = _TRAINING_BYTES // math.prod(source.example_shape)
  return data.first_examples(source, min(_MAX_TRAINING_IMAGES, fitting))


def images_of(
  sampler: Sampler, z: np.ndarray, labels: np.ndarray | None
) -> np.ndarray:
  """Samples of latents [N, Z]: uint8 [N, H, W, C], or points [N, 2].

  A single image is computed alone, which is faster.
  """
  if len(z) > 1:
    return np.asarray(sampler.generate_from(z, labels))
  return np.asarray(
    generation.generate(
      sampler.gan,
      sampler.params,
      sampler.batch_stats,
      jnp.asarray(z, sampler.gan.dtype),
      None if labels is None else jnp.asarray(labels, jnp.int32),
    )
  )


def latents_of_seeds(
  sampler: Sampler, seeds: Sequence[int], truncation: float = math.inf
) -> np.ndarray:
  """The latents [N, Z] of `sample --seeds`."""
  return np.asarray(sampler.latents_of_seeds(seeds, truncation))


def first_layer(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  z: jax.Array,
  labels: jax.Array | None,
) -> jax.Array:
  """The output of the generator's first layer, flattened to [D, F]."""
  outputs = []

  def keep_first(call: Callable, args: tuple, kwargs: dict, context):
    output = call(*args, **kwargs)
    if context.method_name == '__call__' and not outputs:
      outputs.append(output)  # inner layers end before those around them
    return output

  with nn.intercept_methods(keep_first):
    gan.generator.apply(
      {'params': params, 'batch_stats': batch_stats}, z, labels, train=False
    )
  return outputs[0].reshape(len(z), -1)


@functools.partial(jax.jit, static_argnums=0)
def _directions(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  z: jax.Array,
  labels: jax.Array | None,
) -> jax.Array:
  features = first_layer(gan, params, batch_stats, z, labels)
  features = features.astype(jnp.float32)
  features -= features.mean(axis=0, keepdims=True)
  # The principal coordinates of D draws, each up to a factor, from their D x D
  # inner products.
  _, vectors = jnp.linalg.eigh(features @ features.T)
  count = min(NUM_DIRECTIONS, gan.latent_size)
  coordinates = vectors[:, ::-1][:, :count]
  # The coordinates are orthogonal, so each has a regression of its own.
  slopes = coordinates.T @ (z - z.mean(axis=0, keepdims=True))
  return slopes / jnp.maximum(
    jnp.linalg.norm(slopes, axis=1, keepdims=True), 1e-12
  )


def directions(sampler: Sampler) -> np.ndarray:
  """Directions of the latents that change the first layer most.

  GANSpace (Härkönen et al. 2020, arXiv:2004.02546, section 3.1): the principal
  components of the first layer's output over draws of z, taken back to z by
  regression. The first changes the output most.

  Returns:
    float32 [K, Z] of norm 1, with K at most 8.
  """
  gan = sampler.gan
  key = prng.stream(prng.root_key(0), 'sample')
  z = batches.draw_latents(gan, key, _NUM_DRAWS)
  labels = generation.class_by_number(gan, jnp.arange(_NUM_DRAWS))
  return np.asarray(
    _directions(gan, sampler.params, sampler.batch_stats, z, labels)
  )


def arithmetic(
  start: np.ndarray, minus: np.ndarray, plus: np.ndarray
) -> np.ndarray:
  """Adds a difference to a latent (Radford et al. 2015), keeping its length.

  The sum start - minus + plus of draws, [Z] each, is longer than a draw, and
  its image overdone.
  """
  z = start - minus + plus
  norm = np.linalg.norm(z)
  return z * (np.linalg.norm(start) / norm) if norm else start


def along_walk(stops: np.ndarray, place: float) -> np.ndarray:
  """The latent [Z] at a place from 0 to 1 of a walk through stops [N, Z]."""
  legs = len(stops) - 1
  leg = min(int(place * legs), legs - 1)
  start, end = jnp.asarray(stops[leg]), jnp.asarray(stops[leg + 1])
  return np.asarray(latents_lib.slerp(start, end, place * legs - leg))


def nearest(
  images: np.ndarray, image: np.ndarray, num: int
) -> tuple[np.ndarray, np.ndarray]:
  """The images nearest to one, by pixels.

  Args:
    images: uint8 [M, H, W, C].
    image: uint8 [H, W, C].
    num: of images to find.

  Returns:
    Their indices [num], nearest first, and root mean square errors [num] from
    0 to 255.
  """
  wanted = image.astype(np.float32)
  squares = np.concatenate(
    [
      np.mean((part.astype(np.float32) - wanted) ** 2, axis=(1, 2, 3))
      for part in np.array_split(images, -(-len(images) // _COMPARED_AT_ONCE))
    ]
  )
  order = np.argsort(squares, kind='stable')[:num]
  return order, np.sqrt(squares[order])


@functools.partial(jax.jit, static_argnums=0)
def _opinion(
  gan: GAN, net: NetState, image: jax.Array, label: jax.Array | None
) -> jax.Array:
  copies = GROUP_SIZE if gan.discriminator.has_minibatch_deviation else 1
  copies *= gan.packing
  x = images_lib.to_signed(image[None], gan.dtype)
  packs = batches.pack(jnp.repeat(x, copies, axis=0), gan.packing)
  labels = None if label is None else jnp.repeat(label[None], len(packs))
  logits = gan.discriminator.apply(
    {'params': net.params, 'batch_stats': net.batch_stats},
    packs,
    labels,
    train=False,
  )
  return jax.nn.sigmoid(logits[0]) if gan.loss.is_classifier else logits[0]


def opinion(
  gan: GAN, net: NetState, image: np.ndarray, label: int | None
) -> float:
  """The discriminator's output for an image, uint8 [H, W, C].

  The probability of being real, or the score if the loss has no probabilities.
  With packing or a minibatch deviation it sees copies of the image.
  """
  number = None if label is None else jnp.int32(label)
  return float(_opinion(gan, net, jnp.asarray(image), number))
