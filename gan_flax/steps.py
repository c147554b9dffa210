"""Alternating training as pure functions (UDL 15.1.1, algorithm of the game).

`discriminator_step` moves the discriminator alone, `generator_step` the
generator alone, and `train_step` composes them: `discriminator_steps` updates
of the discriminator, then one of the generator against the newest
discriminator. The generator's update takes the fakes of the last discriminator
update again; `jax.vjp` keeps what their gradient needs, so they are drawn once.

With `axis_name`, the functions run under a mapped axis: batches are this
device's share of the global batch, latents its slice of the global latents, and
batch statistics, gradients and metrics are means over the axis.

Dimensions: B batch, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import optax

from common_flax import prng
from common_flax.optimisers import moving_average
from common_flax.sharding import mean_over
from gan_flax import examples
from gan_flax.penalties import Critic
from gan_flax.state import BatchStats
from gan_flax.state import GAN
from gan_flax.state import GANState
from gan_flax.state import NetState
from gan_flax.state import Params

Metrics = dict[str, jax.Array]


class _Keys(NamedTuple):
  """The random keys of one update, each consumed once.

  New ones come at the end, so that the draws of the others stay.
  """

  latents: jax.Array
  flips: jax.Array
  penalty: jax.Array
  discriminator_view: jax.Array
  generator_view: jax.Array


def _apply_gradients(
  tx: optax.GradientTransformation, net: NetState, gradients: Any
) -> NetState:
  updates, opt_state = tx.update(gradients, net.opt_state, net.params)
  params = optax.apply_updates(net.params, updates)
  return net.replace(params=params, opt_state=opt_state)


def _classify(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  x: jax.Array,
  axis_name: str | None,
) -> tuple[jax.Array, BatchStats]:
  """The discriminator's logits in train mode, and its updated statistics."""
  logits, updates = gan.discriminator.apply(
    {'params': params, 'batch_stats': batch_stats},
    x,
    train=True,
    axis_name=axis_name,
    mutable=['batch_stats'],
  )
  return logits, updates.get('batch_stats', {})


def _opinions(
  gan: GAN, real_logits: jax.Array, fake_logits: jax.Array
) -> Metrics:
  """What the discriminator thinks of both kinds on average, by metric."""
  if not gan.loss.is_classifier:
    return {
      'real_score': jnp.mean(real_logits),
      'fake_score': jnp.mean(fake_logits),
    }
  return {
    'real_probability': jnp.mean(jax.nn.sigmoid(real_logits)),
    'fake_probability': jnp.mean(jax.nn.sigmoid(fake_logits)),
  }


def _penalty(
  gan: GAN,
  critic: Critic,
  real: jax.Array,
  fake: jax.Array,
  key: jax.Array,
  step: jax.Array,
  axis_name: str | None,
) -> jax.Array:
  """What the discriminator pays for its slope at this step, []."""

  def pay():
    return gan.penalties.total(critic, real, fake, key, axis_name)

  if gan.penalties.every_steps == 1:
    return pay()
  # Of several seeds at once, `jax.vmap` computes what is not due as well.
  is_due = step % gan.penalties.every_steps == 0
  return lax.cond(is_due, pay, lambda: jnp.zeros((), real.dtype))


def _update_discriminator(
  gan: GAN,
  state: GANState,
  real: jax.Array,
  fake: jax.Array,
  keys: _Keys,
  axis_name: str | None,
) -> tuple[GANState, Metrics]:
  """One update on real and fake examples [B, ...]."""
  net = state.discriminator
  real, fake = examples.shown(
    gan, keys.discriminator_view, real, fake, axis_name
  )

  def loss(params):
    # Separately: one batch's statistics must not mix real and fake.
    real_logits, batch_stats = _classify(
      gan, params, net.batch_stats, real, axis_name
    )
    fake_logits, batch_stats = _classify(
      gan, params, batch_stats, fake, axis_name
    )
    loss = jnp.mean(gan.loss.discriminator(real_logits, fake_logits))
    metrics = {'d_loss': loss, **_opinions(gan, real_logits, fake_logits)}
    if not gan.penalties.are_free:
      penalty = _penalty(
        gan,
        lambda x: _classify(gan, params, net.batch_stats, x, axis_name)[0],
        real,
        fake,
        keys.penalty,
        state.step,
        axis_name,
      )
      metrics['d_penalty'] = penalty
      loss += penalty
    return loss, (metrics, batch_stats)

  gradients, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(net.params)
  gradients = mean_over(axis_name, gradients)
  net = _apply_gradients(gan.discriminator_tx, net, gradients)
  if gan.max_weight is not None:
    net = net.replace(
      params=optax.tree.clip(net.params, -gan.max_weight, gan.max_weight)
    )
  metrics = mean_over(axis_name, metrics)
  metrics['d_grad_norm'] = optax.tree.norm(gradients)
  net = net.replace(batch_stats=batch_stats)
  return state.replace(discriminator=net), metrics


def _update_generator(
  gan: GAN,
  state: GANState,
  real: jax.Array,
  fake: jax.Array,
  pullback: Callable[[jax.Array], tuple[Any]],
  batch_stats: BatchStats,
  keys: _Keys,
  axis_name: str | None,
) -> tuple[GANState, Metrics]:
  """One update against the newest discriminator; see `examples.fakes`."""
  judge = state.discriminator

  def classify(x):
    return _classify(gan, judge.params, judge.batch_stats, x, axis_name)[0]

  def loss(fake):
    seen = examples.shown(gan, keys.generator_view, real, fake, axis_name)
    # Most losses have no use for the real ones, which then cost nothing.
    return jnp.mean(gan.loss.generator(*map(classify, seen)))

  g_loss, fake_gradients = jax.value_and_grad(loss)(fake)
  (gradients,) = pullback(fake_gradients)
  gradients = mean_over(axis_name, gradients)
  net = _apply_gradients(gan.generator_tx, state.generator, gradients)
  net = net.replace(batch_stats=batch_stats)
  metrics = {
    'g_loss': mean_over(axis_name, g_loss),
    'g_grad_norm': optax.tree.norm(gradients),
  }
  ema_params = moving_average(
    state.ema_params, net.params, gan.ema_decay, state.step
  )
  return state.replace(generator=net, ema_params=ema_params), metrics


def discriminator_step(
  gan: GAN,
  state: GANState,
  batch: jax.Array,
  key: jax.Array,
  *,
  axis_name: str | None = None,
) -> tuple[GANState, Metrics]:
  """One update of the discriminator; nothing else in the state changes.

  Args:
    gan: the static part.
    state: the state.
    batch: real images, uint8 [B, H, W, C], or points [B, 2].
    key: consumed.
    axis_name: mapped axis, if any.
  """
  keys = _Keys(*jax.random.split(key, len(_Keys._fields)))
  fake, _, _ = examples.fakes(
    gan, state.generator, keys.latents, len(batch), axis_name
  )
  real = examples.real(gan, batch, keys.flips, axis_name)
  return _update_discriminator(gan, state, real, fake, keys, axis_name)


def generator_step(
  gan: GAN,
  state: GANState,
  batch: jax.Array,
  key: jax.Array,
  *,
  axis_name: str | None = None,
) -> tuple[GANState, Metrics]:
  """One update of the generator and its average; nothing else changes.

  Args:
    gan: the static part.
    state: the state.
    batch: real examples as above, with which some losses compare.
    key: consumed.
    axis_name: mapped axis, if any.
  """
  keys = _Keys(*jax.random.split(key, len(_Keys._fields)))
  fake, pullback, batch_stats = examples.fakes(
    gan, state.generator, keys.latents, len(batch), axis_name
  )
  real = examples.real(gan, batch, keys.flips, axis_name)
  return _update_generator(
    gan, state, real, fake, pullback, batch_stats, keys, axis_name
  )


def train_step(
  gan: GAN,
  state: GANState,
  batch: jax.Array,
  root: jax.Array,
  *,
  axis_name: str | None = None,
) -> tuple[GANState, Metrics]:
  """One step of the game: the discriminator's updates, then the generator's.

  It computes what `discriminator_step` on each of the batches and then
  `generator_step` with the last one's key compute.

  Args:
    gan: the static part.
    state: the state, at step t.
    batch: real images, uint8 [discriminator_steps, B, H, W, C], or points
      [discriminator_steps, B, 2].
    root: the run's root key, not consumed.
    axis_name: mapped axis, if any.

  Returns:
    The state at step t + 1, and the metrics of the last updates: `d_loss` and
    `g_loss`; `d_penalty`, where there is one; gradient norms; and what the
    discriminator thinks, the mean probabilities `real_probability` and
    `fake_probability`, or of losses that know none `real_score` and
    `fake_score`.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  *early, last = jax.random.split(key, gan.discriminator_steps)
  for part, key in zip(batch[:-1], early, strict=True):
    state, _ = discriminator_step(gan, state, part, key, axis_name=axis_name)
  keys = _Keys(*jax.random.split(last, len(_Keys._fields)))
  fake, pullback, batch_stats = examples.fakes(
    gan, state.generator, keys.latents, batch.shape[1], axis_name
  )
  real = examples.real(gan, batch[-1], keys.flips, axis_name)
  state, d_metrics = _update_discriminator(
    gan, state, real, fake, keys, axis_name
  )
  state, g_metrics = _update_generator(
    gan, state, real, fake, pullback, batch_stats, keys, axis_name
  )
  return state.replace(step=state.step + 1), d_metrics | g_metrics
