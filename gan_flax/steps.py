"""The game of a GAN as pure functions (UDL 15.1.1).

`discriminator_step` moves the discriminator alone, `generator_step` the
generator alone, and `train_step` calls them: `discriminator_steps` updates of
the discriminator, then one of the generator against the newest discriminator.
The generator's update reuses the fakes of the last discriminator update;
`jax.vjp` keeps what their gradient needs.

Dimensions: B batch, H height, W width, C channels.
"""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from common_flax import prng
from common_flax.data.batches import Batch
from common_flax.optimisers import moving_average
from gan_flax import batches
from gan_flax import penalties
from gan_flax.batches import Drawn
from gan_flax.gan import GAN
from gan_flax.penalties import Critic
from gan_flax.state import BatchStats
from gan_flax.state import GANState
from gan_flax.state import NetState
from gan_flax.state import Params

Metrics = dict[str, jax.Array]


def discriminator_step(
  gan: GAN, state: GANState, drawn: Drawn
) -> tuple[GANState, Metrics]:
  """One update of the discriminator; nothing else in the state changes.

  Args:
    gan: the static part.
    state: the state.
    drawn: real examples and fakes, see `batches.draw`.

  Returns:
    The state, and the metrics of the discriminator.
  """
  net = state.discriminator
  key = drawn.keys.discriminator_view
  real, fake = batches.shown(
    gan, key, drawn.real, drawn.fake, state.augmentation
  )

  def loss(params):
    real_logits, fake_logits, penalty, batch_stats = _judge(
      gan, params, net.batch_stats, real, fake, drawn, state.step
    )
    loss = jnp.mean(gan.loss.discriminator(real_logits, fake_logits))
    metrics = {'d_loss': loss, **_opinions(gan, real_logits, fake_logits)}
    if not gan.penalties.are_off:
      metrics['d_penalty'] = penalty
      loss += penalty
    return loss, (metrics, batch_stats)

  gradients, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(net.params)
  gradients = gan.axis.mean(gradients)
  net = _apply_gradients(gan.discriminator_tx, net, gradients)
  if gan.max_weight is not None:
    net = net.replace(
      params=optax.tree.clip(net.params, -gan.max_weight, gan.max_weight)
    )
  net = net.replace(batch_stats=batch_stats)
  metrics = gan.axis.mean(metrics)
  metrics['d_grad_norm'] = optax.tree.norm(gradients)
  return state.replace(discriminator=net), metrics


def generator_step(
  gan: GAN, state: GANState, drawn: Drawn
) -> tuple[GANState, Metrics]:
  """One update of the generator and its average; nothing else changes.

  Args:
    gan: the static part.
    state: the state, whose discriminator is the opponent.
    drawn: fakes of this generator, and real examples with which some losses
      compare them, see `batches.draw`.

  Returns:
    The state, and the metrics of the generator.
  """
  opponent = state.discriminator

  def logits(x):
    return _classify(
      gan, opponent.params, opponent.batch_stats, x, drawn.labels
    )[0]

  def loss(fake):
    seen = batches.shown(
      gan, drawn.keys.generator_view, drawn.real, fake, state.augmentation
    )
    # Most losses ignore the real examples, which then cost nothing.
    return jnp.mean(gan.loss.generator(*map(logits, seen)))

  g_loss, fake_gradients = jax.value_and_grad(loss)(drawn.fake)
  (gradients,) = drawn.pullback(fake_gradients)
  gradients = gan.axis.mean(gradients)
  net = _apply_gradients(gan.generator_tx, state.generator, gradients)
  net = net.replace(batch_stats=drawn.batch_stats)
  metrics = {
    'g_loss': gan.axis.mean(g_loss),
    'g_grad_norm': optax.tree.norm(gradients),
  }
  ema_params = moving_average(
    state.ema_params,
    net.params,
    gan.ema_decay,
    state.step,
    gan.ema_num_steps,
  )
  return state.replace(generator=net, ema_params=ema_params), metrics


def train_step(
  gan: GAN, state: GANState, batch: Batch, root: jax.Array
) -> tuple[GANState, Metrics]:
  """One step of the game: the discriminator's updates, then the generator's.

  Args:
    gan: the static part.
    state: the state, at step t.
    batch: real images, uint8 [discriminator_steps, B, H, W, C], or points
      [discriminator_steps, B, 2]; of a conditional GAN `Labelled`.
    root: the run's root key, not consumed.

  Returns:
    The state at step t + 1, and the metrics of the last updates: `d_loss` and
    `g_loss`; `d_penalty`, if there is one; gradient norms; `d_accuracy`, the
    share of pairs of a real and a generated example in which the real one has
    the higher logit; `logit_gap`, by how much; and the mean probabilities
    `real_probability` and `fake_probability`, or for losses without
    probabilities `real_score` and `fake_score`. An adaptive augmentation adds
    `augmentation_p`, its probability, and `real_sign`, from which it follows.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  keys = jax.random.split(key, gan.discriminator_steps)
  for i in range(gan.discriminator_steps):
    part = jax.tree.map(lambda x, i=i: x[i], batch)
    drawn = batches.draw(gan, state.generator, part, keys[i])
    state, d_metrics = discriminator_step(gan, state, drawn)
    if gan.is_adaptive:
      d_metrics['augmentation_p'] = state.augmentation.p
      state = _adapt(gan, state, d_metrics['real_sign'], len(drawn.real))
  state, g_metrics = generator_step(gan, state, drawn)
  return state.replace(step=state.step + 1), d_metrics | g_metrics


def _adapt(
  gan: GAN, state: GANState, real_sign: jax.Array, num: int
) -> GANState:
  """Lets the augmentation follow an update on this device's `num` images."""
  num_images = gan.axis.total(num)
  return state.replace(
    augmentation=gan.augmentation.adapt(
      state.augmentation, real_sign, num_images
    )
  )


def _apply_gradients(
  tx: optax.GradientTransformation, net: NetState, gradients: Any
) -> NetState:
  updates, opt_state = tx.update(gradients, net.opt_state, net.params)
  params = optax.apply_updates(net.params, updates)
  return net.replace(params=params, opt_state=opt_state)


def _judge(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  real: jax.Array,
  fake: jax.Array,
  drawn: Drawn,
  step: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array | float, BatchStats]:
  """Logits of both kinds of examples, the penalty, and updated statistics."""
  labels = drawn.labels
  if gan.derives_once:

    def homogeneous(x, bias_scale):
      return _classify(gan, params, batch_stats, x, labels, bias_scale)[0]

    (real_logits, real_gradients), (fake_logits, fake_gradients) = (
      penalties.logits_and_input_gradients(homogeneous, x) for x in (real, fake)
    )
    penalty = gan.penalties.of_gradients(real_gradients, fake_gradients)
    penalty *= _share(gan, penalty, step)
    return real_logits, fake_logits, penalty, batch_stats
  # Separately: one batch's statistics must not mix real and fake examples.
  real_logits, updated = _classify(gan, params, batch_stats, real, labels)
  fake_logits, updated = _classify(gan, params, updated, fake, labels)
  if gan.penalties.are_off:
    return real_logits, fake_logits, 0.0, updated

  def critic(x):
    return _classify(gan, params, batch_stats, x, labels)[0]

  penalty = _penalty(gan, critic, real, fake, drawn, step)
  return real_logits, fake_logits, penalty, updated


def _classify(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  x: jax.Array,
  labels: jax.Array | None,
  bias_scale: jax.Array | None = None,
) -> tuple[jax.Array, BatchStats]:
  """The discriminator's logits in train mode, and its updated statistics."""
  scale = {} if bias_scale is None else {'bias_scale': bias_scale}
  logits, updates = gan.discriminator.apply(
    {'params': params, 'batch_stats': batch_stats},
    x,
    labels,
    train=True,
    mutable=['batch_stats'],
    **scale,
  )
  return logits, updates.get('batch_stats', {})


def _opinions(
  gan: GAN, real_logits: jax.Array, fake_logits: jax.Array
) -> Metrics:
  """The discriminator's mean opinion of both kinds of examples."""
  # Half of a pair counts where both logits are the same.
  is_right = jnp.sign(real_logits - fake_logits) / 2 + 0.5
  opinions = {}
  if gan.is_adaptive:
    opinions['real_sign'] = gan.augmentation.real_sign(real_logits)
  opinions |= {
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
  drawn: Drawn,
  step: jax.Array,
) -> jax.Array:
  """The penalty on the discriminator's input gradients at this step, []."""

  def penalty():
    weights = batches.interpolation_weights(gan, drawn, len(real))
    total = gan.penalties.total(critic, real, fake, weights)
    return _share(gan, total, step) * total

  if gan.penalties.every_steps == 1:
    return penalty()
  # For several seeds at once, `jax.vmap` computes both branches.
  is_due = step % gan.penalties.every_steps == 0
  return lax.cond(is_due, penalty, lambda: jnp.zeros((), real.dtype))


def _share(gan: GAN, penalty: jax.Array, step: jax.Array) -> jax.Array | float:
  """The share of the penalty that remains at a step, in the penalty's type."""
  share = gan.penalties.share(step)
  return (
    share if gan.penalties.final_share == 1 else share.astype(penalty.dtype)
  )
