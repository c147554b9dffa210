"""Inference with a trained generator.

Batch norm needs fixed statistics: otherwise a sample depends on the others in
its batch. The running averages of training belong to the trained weights, not
to their moving average, so the statistics are estimated anew on batches of
latents from a separate random stream (Wu & Johnson 2021, arXiv:2105.07576,
section 3).

Dimensions: N samples, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import functools
import math

import jax
import jax.numpy as jnp

from common_flax import images as images_lib
from common_flax.latents import by_number
from common_flax.latents import of_seeds
from gan_flax.batches import draw_latents
from gan_flax.gan import for_whole_batches
from gan_flax.gan import GAN
from gan_flax.gan import has_norms
from gan_flax.models.discriminators import GROUP_SIZE
from gan_flax.state import BatchStats
from gan_flax.state import NetState
from gan_flax.state import Params

_STATISTICS_BATCHES = 16
_STATISTICS_BATCH_SIZE = 64


def class_by_number(gan: GAN, numbers: jax.Array) -> jax.Array | None:
  """Labels [N] that cycle through the classes by sample number.

  None if the GAN is unconditional.
  """
  return numbers % gan.num_classes if gan.is_conditional else None


@functools.partial(jax.jit, static_argnums=0)
def _statistics_of_batch(
  gan: GAN, params: Params, keys: jax.Array, index: int
) -> BatchStats:
  """The statistics of one batch: running averages with momentum 0."""
  latents = draw_latents(gan, keys[index], _STATISTICS_BATCH_SIZE)
  labels = class_by_number(gan, jnp.arange(_STATISTICS_BATCH_SIZE))
  generator = for_whole_batches(gan.generator).clone(norm_momentum=0.0)
  variables = {'params': params}
  _, updates = generator.apply(
    variables, latents, labels, train=True, mutable=['batch_stats']
  )
  return updates.get('batch_stats', {})


@jax.jit
def _pooled(batches: list[BatchStats]) -> BatchStats:
  """Pools the mean and variance of each layer over batches."""

  def pool(*layers: dict[str, jax.Array]) -> dict[str, jax.Array]:
    means = jnp.stack([layer['mean'] for layer in layers])
    variances = jnp.stack([layer['var'] for layer in layers])
    return {
      'mean': means.mean(axis=0),
      'var': variances.mean(axis=0) + means.var(axis=0),
    }

  return jax.tree.map(pool, *batches, is_leaf=lambda node: 'mean' in node)


def fixed_statistics(gan: GAN, params: Params, key: jax.Array) -> BatchStats:
  """Estimates the generator's batch norm statistics for given parameters.

  Args:
    gan: the static part.
    params: the generator's parameters.
    key: consumed.

  Returns:
    Each layer's mean and variance, pooled over all batches; empty if the
    generator has no norms.
  """
  if not has_norms(gan.generator):
    return {}
  keys = jax.random.split(key, _STATISTICS_BATCHES)
  # One call per batch: inside a compiled loop, XLA runs a CPU's convolutions on
  # a single thread.
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
  """Generates samples, each a function of its own latent and label alone.

  Args:
    gan: the static part.
    params: the generator's parameters.
    batch_stats: from `fixed_statistics`.
    latents: [N, Z].
    labels: int32 [N] if the GAN is conditional, else None.

  Returns:
    uint8 images [N, H, W, C], or points [N, 2].
  """
  samples = gan.generator.apply(
    {'params': params, 'batch_stats': batch_stats}, latents, labels, train=False
  )
  return samples if gan.is_of_points else images_lib.from_signed(samples)


@functools.partial(jax.jit, static_argnums=0)
def discriminator_output(
  gan: GAN, net: NetState, points: jax.Array
) -> jax.Array:
  """The discriminator's output [N] at points [N, 2].

  The output is the probability of being real, or the score if the loss has no
  probabilities. With packing, each pack holds copies of one point; with a
  minibatch standard deviation, each group does.
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
  """Latents [N, Z], each a function of the key and its number alone.

  Args:
    gan: the static part.
    key: not consumed.
    numbers: int32 [N].
    truncation: see `batches.draw_latents`.
  """
  return by_number(
    lambda key: draw_latents(gan, key, 1, truncation)[0], key, numbers
  )


def latents_of_seeds(
  gan: GAN, seeds: Sequence[int], truncation: float = math.inf
) -> jax.Array:
  """Latents [N, Z], each that of sample 0 of one seed of `sample`.

  Args:
    gan: the static part.
    seeds: the seeds, [N].
    truncation: see `batches.draw_latents`.
  """
  return of_seeds(lambda key: draw_latents(gan, key, 1, truncation)[0], seeds)
