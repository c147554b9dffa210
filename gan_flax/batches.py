"""The inputs of one GAN update: real examples, fakes and random keys.

Under `jax.pmap` a batch is this device's share of the global batch. Through
`gan.axis` the device draws random numbers for all and takes its own slice.

Dimensions: B batch, H height, W width, C channels, Z latent size, P pack size.
"""

from collections.abc import Callable
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common_flax import images as images_lib
from common_flax.data.batches import Batch
from gan_flax.augmentation import Adaptation
from gan_flax.gan import GAN
from gan_flax.state import BatchStats
from gan_flax.state import NetState


class Keys(NamedTuple):
  """The random keys of one update, each consumed once.

  Append new keys at the end: the draws of the others then do not change.
  """

  latents: jax.Array
  flips: jax.Array
  penalty: jax.Array
  discriminator_view: jax.Array
  generator_view: jax.Array


class Drawn(NamedTuple):
  """The inputs of one update."""

  real: jax.Array  # [B, H, W, C] in [-1, 1], or points [B, 2]
  fake: jax.Array  # same shape and range as `real`
  labels: jax.Array | None  # int32 [B], of both; None if unconditional
  # Maps a gradient w.r.t. `fake` to one w.r.t. the generator's parameters.
  pullback: Callable[[jax.Array], tuple[Any]]
  batch_stats: BatchStats  # the generator's updated statistics
  keys: Keys


def draw(gan: GAN, generator: NetState, batch: Batch, key: jax.Array) -> Drawn:
  """Draws the inputs of one update.

  Args:
    gan: the static part.
    generator: the player that draws the fakes, in train mode.
    batch: real images, uint8 [B, H, W, C], or points [B, 2]; `Labelled` if the
      GAN is conditional.
    key: consumed.
  """
  keys = Keys(*jax.random.split(key, len(Keys._fields)))
  examples, labels = batch if gan.is_conditional else (batch, None)
  real = real_examples(gan, examples, keys.flips)
  fake, pullback, batch_stats = fakes(
    gan, generator, keys.latents, len(real), labels
  )
  return Drawn(real, fake, labels, pullback, batch_stats, keys)


def draw_latents(
  gan: GAN, key: jax.Array, num: int, truncation: float = math.inf
) -> jax.Array:
  """Draws latents from N(0, I) or from U(-1, 1), possibly truncated.

  Args:
    gan: the static part.
    key: consumed.
    num: number of latents.
    truncation: maximum absolute value of a coordinate. Lower values give
      better but less varied samples (Brock et al. 2019, arXiv:1809.11096,
      section 3.1; UDL 15.3).

  Returns:
    [num, Z].
  """
  shape = (num, gan.latent_size)
  if gan.latent_distribution == 'uniform':
    limit = min(1.0, truncation)
    return jax.random.uniform(key, shape, gan.dtype, -limit, limit)
  if truncation < math.inf:
    return jax.random.truncated_normal(
      key, -truncation, truncation, shape, gan.dtype
    )
  return jax.random.normal(key, shape, gan.dtype)


def real_examples(gan: GAN, batch: jax.Array, key: jax.Array) -> jax.Array:
  """Converts real examples to the range of fakes and mirrors some of them.

  Args:
    gan: the static part.
    batch: uint8 images [B, H, W, C], or points [B, 2].
    key: selects the images to mirror if `gan.flip`; consumed.

  Returns:
    Images [B, H, W, C] in [-1, 1], or the points.
  """
  if batch.dtype != jnp.uint8:
    return batch.astype(gan.dtype)
  images = images_lib.to_signed(batch, gan.dtype)
  if not gan.flip:
    return images
  is_mirrored = gan.axis.draw(
    lambda num: jax.random.bernoulli(key, 0.5, (num,)), len(batch)
  )
  return jnp.where(is_mirrored[:, None, None, None], images[:, :, ::-1], images)


def fakes(
  gan: GAN,
  generator: NetState,
  key: jax.Array,
  num: int,
  labels: jax.Array | None,
) -> tuple[jax.Array, Callable[[jax.Array], tuple[Any]], BatchStats]:
  """Draws generated examples in train mode.

  Args:
    gan: the static part.
    generator: the generator's state.
    key: consumed.
    num: number of examples.
    labels: int32 [num], the classes to draw; None if unconditional. Passing
      the labels of the real examples gives both the same class frequencies.

  Returns:
    The fakes [num, H, W, C] or [num, 2]; a function that pulls their gradient
    back to the generator's parameters; and the updated batch statistics.
  """
  latents = gan.axis.draw(lambda total: draw_latents(gan, key, total), num)

  def generate(params):
    drawn, updates = gan.generator.apply(
      {'params': params, 'batch_stats': generator.batch_stats},
      latents,
      labels,
      train=True,
      mutable=['batch_stats'],
    )
    return drawn, updates.get('batch_stats', {})

  return jax.vjp(generate, generator.params, has_aux=True)


def interpolation_weights(gan: GAN, drawn: Drawn, num: int) -> jax.Array:
  """Weights [num] in [0, 1) between real and fake, for a penalty."""
  shape = (1,) * (drawn.real.ndim - 1)
  return gan.axis.draw(
    lambda total: jax.random.uniform(
      drawn.keys.penalty, (total, *shape), drawn.real.dtype
    ),
    num,
  ).reshape(num)


def pack(examples: jax.Array, num: int) -> jax.Array:
  """Joins groups of `num` examples along their channels or coordinates.

  A discriminator that sees several images at once notices when a generator
  repeats itself (PacGAN; Lin et al. 2018, arXiv:1712.04086).

  Args:
    examples: [B, H, W, C] or [B, 2].
    num: P, a divisor of B.

  Returns:
    [B / P, H, W, P * C] or [B / P, P * 2].
  """
  batch_size, *sides, channels = examples.shape
  packs = examples.reshape(batch_size // num, num, *sides, channels)
  packs = jnp.moveaxis(packs, 1, -2)
  return packs.reshape(batch_size // num, *sides, num * channels)


def shown(
  gan: GAN,
  key: jax.Array,
  real: jax.Array,
  fake: jax.Array,
  adaptation: Adaptation | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Augments and packs real and fake examples for the discriminator.

  Args:
    gan: the static part.
    key: for the augmentation, consumed.
    real: [B, H, W, C] or [B, 2].
    fake: same shape as `real`.
    adaptation: the state of the augmentation, if it has one.
  """
  if gan.augmentation:
    real_key, fake_key = jax.random.split(key)
    real = gan.augmentation(real_key, real, adaptation)
    fake = gan.augmentation(fake_key, fake, adaptation)
  return pack(real, gan.packing), pack(fake, gan.packing)
