"""Watches a GAN in training for mode collapse and for a dead discriminator.

A generator has collapsed when it gives about the same sample whatever z is (UDL
15.1.4), so the watch measures how much samples differ, in units of how much
real examples do. A discriminator is dead when it is always right or always
wrong: neither teaches the generator anything.

Dimensions: N examples, S side, C channels.
"""

from collections.abc import Sequence
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import compiler
from common_flax import images as images_lib
from common_flax import prng
from common_flax.alarms import Row
from common_flax.alarms import Verdict
from common_flax.latents import slerp
from gan_flax import examples
from gan_flax import generation
from gan_flax.state import GAN
from gan_flax.state import GANState

_NUM_WATCHED = 64  # samples; a hundredth of what a hundred train steps draw
_SHARE = 0.25  # of the way to another latent

# Between what diversities a run is healthy; below what it has collapsed, and
# above what its samples, of points, have flown apart.
_HEALTHY = (0.5, 2.0)
_COLLAPSED = 0.35
_SCATTERED = 4.0
_NUM_LOW = 2  # reports of a run that has collapsed
_NUM_REPORTS = 3  # before one thinks ill of a run that was never healthy
# A generator that was never healthy is given so many steps, and a few reports,
# to come up to a diversity.
_DEADLINES = ((500, 0.1), (1000, 0.25))
# A discriminator is dead that, in the last reports, is never wrong, or takes no
# more than such a share of the pairs of a real and a generated example rightly.
_WON = 0.01  # nats, of its loss; 2 log 2 where it cannot tell
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
  'the discriminator is never wrong (its loss is {loss:.4f}) and teaches the '
  'generator nothing more. Try a lower discriminator.learning_rate, '
  'model.spectral_norm=True, augmentation, or penalty.r1.'
)
_LOSING = (
  'the discriminator is dead: it takes {share:.0%} of the samples for more '
  'real than real examples. Try a higher discriminator.learning_rate, more '
  'discriminator_steps, or a lower generator.learning_rate.'
)


def mean_distance(x: jax.Array) -> jax.Array:
  """The mean distance between two different ones of N examples, [].

  Args:
    x: [N, ...], N at least 2.
  """
  x = x.reshape(len(x), -1)
  # A smaller rounding error of the products below.
  x = x - x.mean(axis=0, keepdims=True)
  products = jnp.matmul(x, x.T, precision='highest')
  squares = jnp.diagonal(products)
  squared = squares[:, None] + squares[None] - 2 * products
  # Rounding leaves examples at a distance from themselves.
  apart = 1 - jnp.eye(len(x), dtype=x.dtype)
  distances = jnp.sqrt(jnp.maximum(squared, 0)) * apart
  return distances.sum() / (len(x) * (len(x) - 1))


def spread_of(gan: GAN, batch: np.ndarray) -> float:
  """The mean distance of real examples, uint8 [N, S, S, C] or [N, 2].

  In the units of the generator's samples, whose images are in [-1, 1].
  """

  def distance(x: jax.Array) -> jax.Array:
    x = x if gan.is_of_points else images_lib.to_signed(x, gan.dtype)
    # Examples that are all the same are no reason to divide by 0.
    return jnp.maximum(mean_distance(x), jnp.finfo(x.dtype).tiny)

  return float(jax.jit(distance, compiler_options=compiler.hastily())(batch))


@functools.partial(jax.jit, static_argnums=(0, 1))
def measure(
  gan: GAN, real_spread: float, root: jax.Array, state: GANState
) -> dict[str, jax.Array]:
  """How samples differ, at latents that never change.

  Args:
    gan: the static part.
    real_spread: mean distance of real examples, see `spread_of`.
    root: the run's root key, not consumed.
    state: the state; its generator is used as in training.

  Returns:
    `diversity`, the mean distance between samples, and `latent_response`, the
    mean distance that a sample moves when its latent goes a quarter of the way
    to another one; both in mean distances of real examples.
  """
  key, other_key = jax.random.split(prng.stream(root, 'watch'))
  latents = examples.draw_latents(gan, key, _NUM_WATCHED)
  others = examples.draw_latents(gan, other_key, _NUM_WATCHED)
  shares = jnp.full(_NUM_WATCHED, _SHARE, gan.dtype)
  moved = jax.vmap(slerp)(latents, others, shares)
  labels = generation.class_by_number(gan, jnp.arange(_NUM_WATCHED))

  def draw(latents):
    samples, _ = gan.generator.apply(
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

  # The generator once in the program, which takes a while to compile.
  samples, moved_samples = jax.vmap(draw)(jnp.stack([latents, moved]))
  steps = jnp.linalg.norm(moved_samples - samples, axis=-1)
  return {
    'diversity': mean_distance(samples) / real_spread,
    'latent_response': steps.mean() / real_spread,
  }


def _known(row: Row, name: str) -> float:
  """A metric, nan where it is not there or was not finite."""
  value = row.get(name)
  return math.nan if value is None else value


def _largest(rows: Sequence[Row], name: str) -> float:
  """The largest of a metric, nan where one of them is not known."""
  return float(np.max([_known(row, name) for row in rows]))


def judge(rows: Sequence[Row], *, is_classifier: bool) -> Verdict:
  """What the metrics of a run say, a pure function of them.

  Args:
    rows: of metrics.jsonl, steps rising.
    is_classifier: whether the discriminator gives a probability. One that gives
      a score may be never wrong and yet teach: so does a critic.
  """
  # Of several seeds the worst one's.
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
  # One report may be of a moment.
  latest = diversities[-_NUM_LOW:]
  if any(np.max(latest) < floor for floor in floors):  # never so of a nan
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
