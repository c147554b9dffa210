"""Samples from a trained generator; the discriminator is thrown away.

Batch norm has to be fixed for a sample not to depend on the others drawn with
it. The running averages of training belong to the weights of training, not to
their moving average, so the statistics are measured afresh: as means over
batches of latents from a stream of their own (Wu & Johnson 2021,
arXiv:2105.07576, section 3).

Dimensions: N samples, H height, W width, C channels, Z latent size.
"""

import functools
import math

import jax
import jax.numpy as jnp

from common_flax import images as images_lib
from common_flax.latents import by_number
from common_flax.nn.minibatch import GROUP_SIZE
from gan_flax.examples import draw_latents
from gan_flax.state import BatchStats
from gan_flax.state import GAN
from gan_flax.state import NetState
from gan_flax.state import Params

_STATISTICS_BATCHES = 16
_STATISTICS_BATCH_SIZE = 64


def class_by_number(gan: GAN, numbers: jax.Array) -> jax.Array | None:
  """The labels [N] of samples by their numbers, each class in its turn.

  None of a GAN that knows no classes.
  """
  return numbers % gan.num_classes if gan.is_conditional else None


@functools.partial(jax.jit, static_argnums=0)
def _statistics_of_batch(
  gan: GAN, params: Params, keys: jax.Array, index: int
) -> BatchStats:
  """The statistics of one batch: running averages without memory."""
  latents = draw_latents(gan, keys[index], _STATISTICS_BATCH_SIZE)
  labels = class_by_number(gan, jnp.arange(_STATISTICS_BATCH_SIZE))
  generator = gan.generator.clone(norm_momentum=0.0)
  variables = {'params': params}
  _, updates = generator.apply(
    variables, latents, labels, train=True, mutable=['batch_stats']
  )
  return updates.get('batch_stats', {})


@jax.jit
def _pooled(batches: list[BatchStats]) -> BatchStats:
  """The mean of each layer's batch means, and the variance about it."""

  def pool(*layers: dict[str, jax.Array]) -> dict[str, jax.Array]:
    means = jnp.stack([layer['mean'] for layer in layers])
    variances = jnp.stack([layer['var'] for layer in layers])
    return {
      'mean': means.mean(axis=0),
      'var': variances.mean(axis=0) + means.var(axis=0),
    }

  return jax.tree.map(pool, *batches, is_leaf=lambda node: 'mean' in node)


def fixed_statistics(gan: GAN, params: Params, key: jax.Array) -> BatchStats:
  """The generator's batch statistics under these parameters.

  Args:
    gan: the static part.
    params: the generator's parameters.
    key: consumed.

  Returns:
    The mean of each layer's batch means, and the variance about it.
  """
  keys = jax.random.split(key, _STATISTICS_BATCHES)
  # A call each: inside a loop of XLA's, convolutions run on a single thread.
  return _pooled(
    [
      _statistics_of_batch(gan, params, keys, i)
      for i in range(_STATISTICS_BATCHES)
    ]
  )


@functools.partial(jax.jit, static_argnums=0)
def generate(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  latents: jax.Array,
  labels: jax.Array | None = None,
) -> jax.Array:
  """Draws samples, each a function of its latent and label alone.

  Args:
    gan: the static part.
    params: the generator's parameters.
    batch_stats: fixed, see `fixed_statistics`.
    latents: [N, Z].
    labels: int32 [N], of a conditional GAN.

  Returns:
    uint8 images [N, H, W, C], or points [N, 2].
  """
  samples = gan.generator.apply(
    {'params': params, 'batch_stats': batch_stats}, latents, labels, train=False
  )
  return samples if gan.is_of_points else images_lib.from_signed(samples)


@functools.partial(jax.jit, static_argnums=0)
def opinion(gan: GAN, net: NetState, points: jax.Array) -> jax.Array:
  """What a discriminator thinks of points [N, 2]: [N].

  A probability of being real, or the score of a loss that knows none. Of packs
  it is what it thinks of a point that fills a pack alone, and of groups that
  are compared what it thinks of one that fills a group.
  """
  copies = GROUP_SIZE if gan.discriminator.has_minibatch_deviation else 1
  packs = jnp.tile(points, (1, gan.packing))
  logits = gan.discriminator.apply(
    {'params': net.params, 'batch_stats': net.batch_stats},
    jnp.repeat(packs, copies, axis=0),
    train=False,
  )[::copies]
  return jax.nn.sigmoid(logits) if gan.loss.is_classifier else logits


def latents_by_number(
  gan: GAN,
  key: jax.Array,
  numbers: jax.Array,
  truncation: float = math.inf,
) -> jax.Array:
  """Latents [N, Z], each a function of (key, its number) alone.

  Args:
    gan: the static part.
    key: the root of the latents, not consumed.
    numbers: int32 [N].
    truncation: see `examples.draw_latents`.
  """
  return by_number(
    lambda key: draw_latents(gan, key, 1, truncation)[0], key, numbers
  )
