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
from common_flax.data.batches import Batch
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


class _Drawn(NamedTuple):
  """What one update is made of."""

  real: jax.Array  # [B, H, W, C] or [B, 2], as the generator's
  labels: jax.Array | None  # int32 [B], of both kinds, if it is conditional
  fake: jax.Array  # [B, H, W, C] or [B, 2]
  # From a gradient with respect to them to that of the generator's parameters.
  pullback: Callable[[jax.Array], tuple[Any]]
  batch_stats: BatchStats  # of the generator, updated


def _draw(
  gan: GAN,
  generator: NetState,
  batch: Batch,
  keys: _Keys,
  axis_name: str | None,
) -> _Drawn:
  originals, labels = examples.split(gan, batch)
  real = examples.real(gan, originals, keys.flips, axis_name)
  fake, pullback, batch_stats = examples.fakes(
    gan, generator, keys.latents, len(real), labels, axis_name
  )
  return _Drawn(real, labels, fake, pullback, batch_stats)


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
  labels: jax.Array | None,
  axis_name: str | None,
) -> tuple[jax.Array, BatchStats]:
  """The discriminator's logits in train mode, and its updated statistics."""
  logits, updates = gan.discriminator.apply(
    {'params': params, 'batch_stats': batch_stats},
    x,
    labels,
    train=True,
    axis_name=axis_name,
    mutable=['batch_stats'],
  )
  return logits, updates.get('batch_stats', {})


def _opinions(
  gan: GAN, real_logits: jax.Array, fake_logits: jax.Array
) -> Metrics:
  """What the discriminator thinks of both kinds on average, by metric."""
  is_right = jnp.sign(real_logits - fake_logits) / 2 + 0.5  # a half if the same
  opinions = {
    'd_accuracy': jnp.mean(is_right),
    'logit_gap': jnp.mean(real_logits) - jnp.mean(fake_logits),
  }
  if not gan.loss.is_classifier:
    return opinions | {
      'real_score': jnp.mean(real_logits),
      'fake_score': jnp.mean(fake_logits),
    }
  return opinions | {
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
  drawn: _Drawn,
  keys: _Keys,
  axis_name: str | None,
) -> tuple[GANState, Metrics]:
  """One update on real and fake examples."""
  net, labels = state.discriminator, drawn.labels
  real, fake = examples.shown(
    gan, keys.discriminator_view, drawn.real, drawn.fake, axis_name
  )

  def loss(params):
    # Separately: one batch's statistics must not mix real and fake.
    real_logits, batch_stats = _classify(
      gan, params, net.batch_stats, real, labels, axis_name
    )
    fake_logits, batch_stats = _classify(
      gan, params, batch_stats, fake, labels, axis_name
    )
    loss = jnp.mean(gan.loss.discriminator(real_logits, fake_logits))
    metrics = {'d_loss': loss, **_opinions(gan, real_logits, fake_logits)}
    if not gan.penalties.are_free:
      penalty = _penalty(
        gan,
        lambda x: _classify(gan, params, net.batch_stats, x, labels, axis_name)[
          0
        ],
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
  drawn: _Drawn,
  keys: _Keys,
  axis_name: str | None,
) -> tuple[GANState, Metrics]:
  """One update against the newest discriminator."""
  judge = state.discriminator

  def classify(x):
    return _classify(
      gan, judge.params, judge.batch_stats, x, drawn.labels, axis_name
    )[0]

  def loss(fake):
    seen = examples.shown(gan, keys.generator_view, drawn.real, fake, axis_name)
    # Most losses have no use for the real ones, which then cost nothing.
    return jnp.mean(gan.loss.generator(*map(classify, seen)))

  g_loss, fake_gradients = jax.value_and_grad(loss)(drawn.fake)
  (gradients,) = drawn.pullback(fake_gradients)
  gradients = mean_over(axis_name, gradients)
  net = _apply_gradients(gan.generator_tx, state.generator, gradients)
  net = net.replace(batch_stats=drawn.batch_stats)
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
  batch: Batch,
  key: jax.Array,
  *,
  axis_name: str | None = None,
) -> tuple[GANState, Metrics]:
  """One update of the discriminator; nothing else in the state changes.

  Args:
    gan: the static part.
    state: the state.
    batch: real images, uint8 [B, H, W, C], or points [B, 2]; of a conditional
      GAN with their labels, `Labelled`.
    key: consumed.
    axis_name: mapped axis, if any.
  """
  keys = _Keys(*jax.random.split(key, len(_Keys._fields)))
  drawn = _draw(gan, state.generator, batch, keys, axis_name)
  return _update_discriminator(gan, state, drawn, keys, axis_name)


def generator_step(
  gan: GAN,
  state: GANState,
  batch: Batch,
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
  drawn = _draw(gan, state.generator, batch, keys, axis_name)
  return _update_generator(gan, state, drawn, keys, axis_name)


def train_step(
  gan: GAN,
  state: GANState,
  batch: Batch,
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
      [discriminator_steps, B, 2]; of a conditional GAN `Labelled`.
    root: the run's root key, not consumed.
    axis_name: mapped axis, if any.

  Returns:
    The state at step t + 1, and the metrics of the last updates: `d_loss` and
    `g_loss`; `d_penalty`, where there is one; gradient norms; and what the
    discriminator thinks: `d_accuracy`, the share of pairs of a real and a
    generated example whose real one has the higher logit; `logit_gap`, how much
    higher the real ones' are; and the mean probabilities `real_probability` and
    `fake_probability`, or of losses that know none `real_score` and
    `fake_score`.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  *early, last = jax.random.split(key, gan.discriminator_steps)
  *early_parts, last_part = [
    jax.tree.map(lambda x, i=i: x[i], batch)
    for i in range(gan.discriminator_steps)
  ]
  for part, key in zip(early_parts, early, strict=True):
    state, _ = discriminator_step(gan, state, part, key, axis_name=axis_name)
  keys = _Keys(*jax.random.split(last, len(_Keys._fields)))
  drawn = _draw(gan, state.generator, last_part, keys, axis_name)
  state, d_metrics = _update_discriminator(gan, state, drawn, keys, axis_name)
  state, g_metrics = _update_generator(gan, state, drawn, keys, axis_name)
  return state.replace(step=state.step + 1), d_metrics | g_metrics
