"""The state of a GAN in training: one pytree, which checkpoints store whole."""

from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import optax

from common_flax import prng
from gan_flax.augmentation import Adaptation
from gan_flax.gan import GAN

Params = Any  # a pytree of arrays
BatchStats = Any

GENERATOR = 'generator'  # the checkpoint item that sampling reads


class NetState(struct.PyTreeNode):
  """The state of one player."""

  params: Params
  batch_stats: BatchStats
  opt_state: optax.OptState


class GANState(struct.PyTreeNode):
  """Everything that changes during training."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks so far; folded into every stream
  generator: NetState
  discriminator: NetState
  ema_params: Params  # moving average of generator.params

  # Not a field: states of older runs, and of runs without ADA, have none.
  augmentation = None


class AdaptiveGANState(GANState):
  """The state of a GAN whose augmentation adapts to the discriminator."""

  augmentation: Adaptation


def _init_net(
  module: nn.Module,
  tx: optax.GradientTransformation,
  key: jax.Array,
  inputs: jax.Array,
  labels: jax.Array | None,
) -> NetState:
  variables = module.init(key, inputs, labels, train=True)
  params = variables['params']
  return NetState(
    params=params,
    # Flax creates these in float32 but updates them in the parameters' type.
    batch_stats=optax.tree.cast(variables.get('batch_stats', {}), inputs.dtype),
    opt_state=tx.init(params),
  )


def init_state(gan: GAN, root: jax.Array) -> GANState:
  """Initialises the state, a pure function of (gan, root)."""
  generator_key, discriminator_key = jax.random.split(prng.stream(root, 'init'))
  latents = jnp.zeros((1, gan.latent_size), gan.dtype)
  *sides, channels = gan.example_shape
  packs = jnp.zeros((1, *sides, gan.packing * channels), gan.dtype)
  labels = jnp.zeros(1, jnp.int32) if gan.is_conditional else None
  generator = _init_net(
    gan.generator, gan.generator_tx, generator_key, latents, labels
  )
  discriminator = _init_net(
    gan.discriminator, gan.discriminator_tx, discriminator_key, packs, labels
  )
  state = GANState(
    step=jnp.zeros((), jnp.int32),
    attempt=jnp.zeros((), jnp.int32),
    generator=generator,
    discriminator=discriminator,
    # A copy: a donated state must not hold one buffer twice.
    ema_params=jax.tree.map(jnp.copy, generator.params),
  )
  if not gan.is_adaptive:
    return state
  return AdaptiveGANState(**vars(state), augmentation=gan.augmentation.init())


def networks(state: GANState) -> dict[str, Params]:
  """The parameters of both players."""
  return {
    'generator': state.generator.params,
    'discriminator': state.discriminator.params,
  }


def exported_items(state: GANState) -> dict[str, dict[str, Params]]:
  """The checkpoint items that sampling reads, by name."""
  return {GENERATOR: exported_generator(state)}


def exported_generator(state: GANState) -> dict[str, Params]:
  """The item GENERATOR: the generator's weights and their moving average.

  It has no batch statistics, because sampling estimates its own.
  """
  return {'params': state.generator.params, 'ema_params': state.ema_params}


def with_weights_of(other: GANState, state: GANState) -> GANState:
  """Returns `state` with the weights and batch statistics of `other`.

  Optimiser states, `augmentation`, `step` and `attempt` stay those of `state`.
  """
  return state.replace(
    generator=state.generator.replace(
      params=other.generator.params, batch_stats=other.generator.batch_stats
    ),
    discriminator=state.discriminator.replace(
      params=other.discriminator.params,
      batch_stats=other.discriminator.batch_stats,
    ),
    ema_params=other.ema_params,
  )
