"""Watches a GAN in training for mode collapse and for a dead discriminator.

A generator has collapsed when it gives nearly the same sample for every z
(UDL 15.1.4). The watch therefore measures how much samples differ, relative to
real examples. A discriminator is dead when it is always right or always wrong:
either way the generator learns nothing from it.

Dimensions: N examples, S side, C channels.
"""

from collections.abc import Sequence
import functools
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.cpu import compiler
from common_flax.data.source import Source
from common_flax.latents import slerp
from common_flax.training.health import Row
from common_flax.training.health import Verdict
from common_flax.training.watch import Watch
from gan_flax import batches
from gan_flax import generation
from gan_flax.gan import GAN
from gan_flax.state import GANState

_NUM_REAL = 500  # real examples used to measure their spread
_NUM_WATCHED = 64  # samples; 100 train steps draw 100 times as many
_WEIGHT = 0.25  # interpolation weight of the other latent in `latent_response`

_HEALTHY = (0.5, 2.0)  # healthy range of `diversity`
_COLLAPSED = 0.35  # below this, a run that was healthy has collapsed
_SCATTERED = 4.0  # above this, samples have diverged
_NUM_LOW = 2  # consecutive low reports that make a collapse
_NUM_REPORTS = 3  # needed to judge a run that was never healthy
# (step, diversity): the generator must reach this diversity by this step.
_DEADLINES = ((500, 0.1), (1000, 0.25))
# A discriminator is dead if, in the last reports, its loss stays below _WON or
# it ranks real above generated in less than _LOST of the pairs.
_WON = 0.01  # nats; at chance the loss is 2 log 2
_LOST = 0.02

_COLLAPSE = (
  'mode collapse: samples differ {diversity:.2f} times as much as real '
  'examples do. Try a lower generator.learning_rate, '
  'model.minibatch_deviation=True, model.packing=2, or '
  "loss.name='relativistic' with penalty.r1 and penalty.r2."
)
_SCATTER = (
  'the generator has diverged: samples differ {diversity:.1f} times as much as '
  'real examples do. Try lower learning rates, or a max_grad_norm.'
)
_WINNING = (
  'the discriminator is never wrong (its loss is {loss:.4f}), and the '
  'generator no longer learns from it. Try a lower '
  'discriminator.learning_rate, model.spectral_norm=True, augmentation, or '
  'penalty.r1.'
)
_LOSING = (
  'the discriminator is dead: it rates {share:.0%} of the samples as more '
  'real than real examples. Try a higher discriminator.learning_rate, more '
  'discriminator_steps, or a lower generator.learning_rate.'
)


def mean_distance(x: jax.Array) -> jax.Array:
  """Mean distance between pairs of different examples, a scalar.

  Args:
    x: [N, ...] with N at least 2.
  """
  x = x.reshape(len(x), -1)
  # Centring reduces the rounding error of the products below.
  x = x - x.mean(axis=0, keepdims=True)
  products = jnp.matmul(x, x.T, precision='highest')
  squares = jnp.diagonal(products)
  squared = squares[:, None] + squares[None] - 2 * products
  # Rounding would give each example a distance from itself.
  apart = 1 - jnp.eye(len(x), dtype=x.dtype)
  distances = jnp.sqrt(jnp.maximum(squared, 0)) * apart
  return distances.sum() / (len(x) * (len(x) - 1))


def spread(gan: GAN, batch: np.ndarray) -> float:
  """Mean distance between real examples, uint8 [N, S, S, C] or [N, 2].

  Images are scaled to [-1, 1] first, like the generator's samples.
  """

  def distance(x: jax.Array) -> jax.Array:
    x = x if gan.is_of_points else images_lib.to_signed(x, gan.dtype)
    # Avoids a division by 0 if all examples are identical.
    return jnp.maximum(mean_distance(x), jnp.finfo(x.dtype).tiny)

  return float(
    jax.jit(distance, compiler_options=compiler.for_single_run())(batch)
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def measure(
  gan: GAN, real_spread: float, root: jax.Array, state: GANState
) -> dict[str, jax.Array]:
  """Measures how much samples differ, at fixed latents.

  Args:
    gan: the static part.
    real_spread: mean distance between real examples, see `spread`.
    root: the run's root key, not consumed.
    state: the state; its generator is applied in train mode.

  Returns:
    `diversity`, the mean distance between samples, and `latent_response`, the
    mean distance by which a sample moves when its latent moves a quarter of the
    way to another latent. Both are relative to `real_spread`.
  """
  key, other_key = jax.random.split(prng.stream(root, 'watch'))
  latents = batches.draw_latents(gan, key, _NUM_WATCHED)
  others = batches.draw_latents(gan, other_key, _NUM_WATCHED)
  shares = jnp.full(_NUM_WATCHED, _WEIGHT, gan.dtype)
  moved = jax.vmap(slerp)(latents, others, shares)
  labels = generation.class_by_number(gan, jnp.arange(_NUM_WATCHED))

  # These samples are not split over devices, even if training batches are.
  generator = gan.generator.clone(axis_name=None)

  def draw(latents):
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
    return samples.reshape(_NUM_WATCHED, -1)

  # One application of the generator compiles faster than two.
  samples, moved_samples = jax.vmap(draw)(jnp.stack([latents, moved]))
  steps = jnp.linalg.norm(moved_samples - samples, axis=-1)
  return {
    'diversity': mean_distance(samples) / real_spread,
    'latent_response': steps.mean() / real_spread,
  }


def _known(row: Row, name: str) -> float:
  """A metric; NaN if it is missing or was not finite."""
  value = row.get(name)
  return math.nan if value is None else value


def _largest(rows: Sequence[Row], name: str) -> float:
  """The largest value of a metric; NaN if one of them is unknown."""
  return float(np.max([_known(row, name) for row in rows]))


def judge(rows: Sequence[Row], *, is_classifier: bool) -> Verdict:
  """Judges a run by its metrics.

  Args:
    rows: the rows of metrics.jsonl, ordered by step.
    is_classifier: whether the discriminator returns a probability. A critic
      returns a score, and the generator may learn from one that is never wrong.
  """
  # With several seeds, the worst one is judged.
  lowest = 'diversity_lowest' if 'diversity_lowest' in rows[-1] else 'diversity'
  diversities = [_known(row, lowest) for row in rows]
  now = diversities[-1]
  if now > _SCATTERED:
    return Verdict(_SCATTER.format(diversity=now), is_healthy=False)
  floors = [
    floor
    for num_steps, floor in _DEADLINES
    if len(rows) >= _NUM_REPORTS and rows[-1]['step'] >= num_steps
  ]
  if any(value >= _HEALTHY[0] for value in diversities):
    floors.append(_COLLAPSED)
  # A single low report may be an outlier.
  latest = diversities[-_NUM_LOW:]
  if any(np.max(latest) < floor for floor in floors):  # False for NaN
    return Verdict(_COLLAPSE.format(diversity=now), is_healthy=False)
  rows = rows[-_NUM_REPORTS:]
  is_known = len(rows) == _NUM_REPORTS
  loss = _largest(rows, 'd_loss')
  if is_known and is_classifier and loss < _WON:
    return Verdict(_WINNING.format(loss=loss), is_healthy=False)
  share = _largest(rows, 'd_accuracy')
  if is_known and share < _LOST:
    return Verdict(_LOSING.format(share=1 - share), is_healthy=False)
  return Verdict(is_healthy=_HEALTHY[0] <= now <= _HEALTHY[1])


def collapse_watch(gan: GAN, source: Source, config: ConfigDict) -> Watch:
  """Creates the hook that detects collapse and applies `config.on_collapse`.

  Args:
    gan: the static part.
    source: the training data; its spread is the reference for samples.
    config: the run's config.
  """
  real_spread = spread(gan, data.first_examples(source, _NUM_REAL))
  return Watch(
    functools.partial(measure, gan, real_spread),
    functools.partial(judge, is_classifier=gan.loss.is_classifier),
    action=config.on_collapse,
    max_rollbacks=config.on_collapse_max_rollbacks,
    field='on_collapse',
  )
