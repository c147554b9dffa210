"""Real and generated examples, as the two players draw and see them.

With `axis_name`, the functions run under a mapped axis: batches are this
device's share of the global batch, latents its slice of the global latents.

Dimensions: B batch, H height, W width, C channels, Z latent size, P pack.
"""

from collections.abc import Callable
import math
from typing import Any

import jax
import jax.numpy as jnp

from common_flax import images as images_lib
from common_flax.data.batches import Batch
from common_flax.sharding import drawn_globally
from gan_flax.state import GAN
from gan_flax.state import NetState


def draw_latents(
  gan: GAN, key: jax.Array, num: int, truncation: float = math.inf
) -> jax.Array:
  """Latents from N(0, I) or from U(-1, 1), or from the middle of it.

  Args:
    gan: the static part.
    key: consumed.
    num: how many.
    truncation: the largest absolute value of a coordinate. Latents that are
      more probable give better samples that differ less (Brock et al. 2019,
      arXiv:1809.11096, section 3.1; UDL 15.3).

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


def split(gan: GAN, batch: Batch) -> tuple[jax.Array, jax.Array | None]:
  """The examples [..., B, H, W, C] of a batch and their labels [..., B].

  A conditional GAN's batches are `Labelled`; others are the examples alone,
  and have no labels, None.
  """
  return batch if gan.is_conditional else (batch, None)


def real(
  gan: GAN, batch: jax.Array, key: jax.Array, axis_name: str | None
) -> jax.Array:
  """Real examples as the discriminator takes them.

  Images, uint8 [B, H, W, C], become [B, H, W, C] in [-1, 1], mirrored where
  drawn so; points [B, 2] stay what they are.
  """
  if batch.dtype != jnp.uint8:
    return batch.astype(gan.dtype)
  images = images_lib.to_signed(batch, gan.dtype)
  if not gan.flip:
    return images
  mirrored = drawn_globally(
    lambda num: jax.random.bernoulli(key, 0.5, (num,)), len(batch), axis_name
  )
  return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def fakes(
  gan: GAN,
  generator: NetState,
  key: jax.Array,
  num: int,
  labels: jax.Array | None,
  axis_name: str | None,
) -> tuple[jax.Array, Callable[[jax.Array], tuple[Any]], Any]:
  """Draws fakes in train mode.

  Args:
    gan: the static part.
    generator: the player.
    key: consumed.
    num: how many.
    labels: int32 [num] of what to draw, if it is conditional: those of the real
      examples of the batch, so that classes come as often among the fakes.
    axis_name: mapped axis, if any.

  Returns:
    The fakes [num, H, W, C] or [num, 2], the function that pulls a gradient
    with respect to them back to the generator's parameters, and the updated
    batch statistics.
  """
  latents = drawn_globally(
    lambda total: draw_latents(gan, key, total), num, axis_name
  )

  def generate(params):
    drawn, updates = gan.generator.apply(
      {'params': params, 'batch_stats': generator.batch_stats},
      latents,
      labels,
      train=True,
      axis_name=axis_name,
      mutable=['batch_stats'],
    )
    return drawn, updates.get('batch_stats', {})

  return jax.vjp(generate, generator.params, has_aux=True)


def pack(examples: jax.Array, num: int) -> jax.Array:
  """Joins each `num` examples in one, by their channels or coordinates.

  A discriminator that sees several images at once sees at a glance that a
  generator repeats itself (PacGAN; Lin et al. 2018, arXiv:1712.04086).

  Args:
    examples: [B, H, W, C] or [B, 2].
    num: P, which divides B.

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
  axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
  """Real and fake examples as the discriminator sees them, in packs."""
  if gan.augmentation:
    real_key, fake_key = jax.random.split(key)
    real = gan.augmentation(real_key, real, axis_name)
    fake = gan.augmentation(fake_key, fake, axis_name)
  return pack(real, gan.packing), pack(fake, gan.packing)
