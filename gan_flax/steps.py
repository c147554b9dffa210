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

import jax
from jax import lax
import jax.numpy as jnp
import optax

from common_flax import images as images_lib
from common_flax import prng
from common_flax.optimisers import moving_average
from common_flax.sharding import drawn_globally
from common_flax.sharding import mean_over
from gan_flax.penalties import Critic
from gan_flax.state import BatchStats
from gan_flax.state import GAN
from gan_flax.state import GANState
from gan_flax.state import NetState
from gan_flax.state import Params

Metrics = dict[str, jax.Array]


def draw_latents(gan: GAN, key: jax.Array, num: int) -> jax.Array:
  """Latents [num, Z] from N(0, I) or from U(-1, 1); the key is consumed."""
  shape = (num, gan.latent_size)
  if gan.latent_distribution == 'uniform':
    return jax.random.uniform(key, shape, gan.dtype, -1.0, 1.0)
  return jax.random.normal(key, shape, gan.dtype)


def _real_images(
  gan: GAN, batch: jax.Array, key: jax.Array, axis_name: str | None
) -> jax.Array:
  """uint8 [B, H, W, C] -> [B, H, W, C] in [-1, 1], mirrored where drawn so."""
  images = images_lib.to_signed(batch, gan.dtype)
  if not gan.flip:
    return images
  mirrored = drawn_globally(
    lambda num: jax.random.bernoulli(key, 0.5, (num,)), len(batch), axis_name
  )
  return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def _fakes(
  gan: GAN, generator: NetState, key: jax.Array, num: int, axis_name: str | None
) -> tuple[jax.Array, Callable[[jax.Array], tuple[Any]], Any]:
  """Draws fakes in train mode.

  Returns:
    The fakes [num, H, W, C], the function that pulls a gradient with respect to
    them back to the generator's parameters, and the updated batch statistics.
  """
  latents = drawn_globally(
    lambda total: draw_latents(gan, key, total), num, axis_name
  )

  def generate(params):
    fakes, updates = gan.generator.apply(
      {'params': params, 'batch_stats': generator.batch_stats},
      latents,
      train=True,
      axis_name=axis_name,
      mutable=['batch_stats'],
    )
    return fakes, updates.get('batch_stats', {})

  return jax.vjp(generate, generator.params, has_aux=True)


def _apply_gradients(
  tx: optax.GradientTransformation, net: NetState, gradients: Any
) -> NetState:
  updates, opt_state = tx.update(gradients, net.opt_state, net.params)
  params = optax.apply_updates(net.params, updates)
  return net.replace(params=params, opt_state=opt_state)


def pack(images: jax.Array, num: int) -> jax.Array:
  """Joins each `num` images in one, by their channels.

  A discriminator that sees several images at once sees at a glance that a
  generator repeats itself (PacGAN; Lin et al. 2018, arXiv:1712.04086).

  Args:
    images: [B, H, W, C].
    num: P, which divides B.

  Returns:
    [B / P, H, W, P * C].
  """
  batch_size, height, width, channels = images.shape
  packs = images.reshape(batch_size // num, num, height, width, channels)
  packs = jnp.moveaxis(packs, 1, 3)
  return packs.reshape(-1, height, width, num * channels)


def _classify(
  gan: GAN,
  params: Params,
  batch_stats: BatchStats,
  packs: jax.Array,
  axis_name: str | None,
) -> tuple[jax.Array, BatchStats]:
  """The discriminator's logits in train mode, and its updated statistics."""
  logits, updates = gan.discriminator.apply(
    {'params': params, 'batch_stats': batch_stats},
    packs,
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
  is_due = step % gan.penalties.every_steps == 0
  return lax.cond(is_due, pay, lambda: jnp.zeros((), real.dtype))


def _update_discriminator(
  gan: GAN,
  state: GANState,
  real: jax.Array,
  fake: jax.Array,
  key: jax.Array,
  axis_name: str | None,
) -> tuple[GANState, Metrics]:
  """One update on real and fake images [B, H, W, C]; the key is consumed."""
  net = state.discriminator
  real, fake = (pack(images, gan.packing) for images in (real, fake))

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
        lambda packs: _classify(gan, params, net.batch_stats, packs, axis_name)[
          0
        ],
        real,
        fake,
        key,
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
  batch_stats: Any,
  axis_name: str | None,
) -> tuple[GANState, Metrics]:
  """One update against the newest discriminator; fakes as of `_fakes`."""

  def classify(images):
    net = state.discriminator
    packs = pack(images, gan.packing)
    return _classify(gan, net.params, net.batch_stats, packs, axis_name)[0]

  def loss(fake):
    # Most losses have no use for the real ones, which then cost nothing.
    return jnp.mean(gan.loss.generator(classify(real), classify(fake)))

  g_loss, image_gradients = jax.value_and_grad(loss)(fake)
  (gradients,) = pullback(image_gradients)
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
    batch: uint8 [B, H, W, C] real images.
    key: consumed.
    axis_name: mapped axis, if any.
  """
  latent_key, flip_key, penalty_key = jax.random.split(key, 3)
  fake, _, _ = _fakes(gan, state.generator, latent_key, len(batch), axis_name)
  real = _real_images(gan, batch, flip_key, axis_name)
  return _update_discriminator(gan, state, real, fake, penalty_key, axis_name)


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
    batch: uint8 [B, H, W, C] real images, with which some losses compare.
    key: consumed.
    axis_name: mapped axis, if any.
  """
  latent_key, flip_key, _ = jax.random.split(key, 3)
  fake, pullback, batch_stats = _fakes(
    gan, state.generator, latent_key, len(batch), axis_name
  )
  real = _real_images(gan, batch, flip_key, axis_name)
  return _update_generator(
    gan, state, real, fake, pullback, batch_stats, axis_name
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
    batch: uint8 [discriminator_steps, B, H, W, C] real images.
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
  keys = jax.random.split(key, gan.discriminator_steps)
  for images, key in zip(batch[:-1], keys[:-1], strict=True):
    state, _ = discriminator_step(gan, state, images, key, axis_name=axis_name)
  latent_key, flip_key, penalty_key = jax.random.split(keys[-1], 3)
  fake, pullback, batch_stats = _fakes(
    gan, state.generator, latent_key, batch.shape[1], axis_name
  )
  real = _real_images(gan, batch[-1], flip_key, axis_name)
  state, d_metrics = _update_discriminator(
    gan, state, real, fake, penalty_key, axis_name
  )
  state, g_metrics = _update_generator(
    gan, state, real, fake, pullback, batch_stats, axis_name
  )
  return state.replace(step=state.step + 1), d_metrics | g_metrics
