"""What of a GAN stays fixed while it trains, and what changes.

`GAN` holds the static things, `GANState` is the one pytree of all that changes
and that a checkpoint stores whole.

Dimensions: B batch, H height, W width, C channels, Z latent size.
"""

import dataclasses
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from common_flax import optimisers
from common_flax import prng
from common_flax.config import require
from common_flax.data.worlds import WORLDS
from gan_flax.augmentation import Augmentation
from gan_flax.losses import Loss
from gan_flax.losses import LOSSES
from gan_flax.models import MODELS
from gan_flax.penalties import Penalties

Params = Any  # a pytree of arrays
BatchStats = Any

GENERATOR = 'generator'  # the checkpoint item that sampling reads


@dataclasses.dataclass(frozen=True)
class GAN:
  """Everything static: modules, optimisers, losses, sizes."""

  generator: nn.Module
  discriminator: nn.Module
  generator_tx: optax.GradientTransformation
  discriminator_tx: optax.GradientTransformation
  loss: Loss
  penalties: Penalties  # of the discriminator's slope
  max_weight: float | None  # of the discriminator's parameters
  example_shape: tuple[int, ...]  # (H, W, C) of images, (2,) of points
  num_classes: int | None  # of the labels, if it is conditional
  latent_size: int
  latent_distribution: str  # 'normal' or 'uniform'
  discriminator_steps: int  # discriminator updates a generator update
  packing: int  # examples that the discriminator sees at once
  ema_decay: float  # of the generator's moving average, once warmed up
  flip: bool  # mirror real images at random
  augmentation: Augmentation | None  # of what the discriminator sees
  dtype: jnp.dtype  # of examples and latents

  @property
  def is_of_points(self) -> bool:
    """Whether examples are points rather than images."""
    return len(self.example_shape) == 1

  @property
  def is_conditional(self) -> bool:
    """Whether examples of an asked class can be drawn."""
    return self.num_classes is not None


class NetState(struct.PyTreeNode):
  """One player."""

  params: Params
  batch_stats: BatchStats
  opt_state: optax.OptState


class GANState(struct.PyTreeNode):
  """Everything that changes."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks taken; folded into every stream
  generator: NetState
  discriminator: NetState
  ema_params: Params  # moving average of generator.params


def create_gan(
  config: ConfigDict,
  example_shape: tuple[int, ...],
  num_classes: int | None = None,
) -> GAN:
  """Builds the static part of a GAN from a checked config.

  Args:
    config: a config that `gan_flax.config.check` accepts.
    example_shape: (H, W, C) of the data's images, or (2,) of its points.
    num_classes: of the data's labels, if there are any.

  Raises:
    UserError: if it is conditional and there are no labels.
  """
  dtype = jnp.dtype(config.compute_dtype)
  param_dtype = jnp.promote_types(dtype, jnp.float32)
  model = MODELS[config.model.name]
  shape = tuple(example_shape)
  conditioning = config.model.conditioning
  require(
    conditioning == 'none' or num_classes is not None,
    config,
    'model.conditioning',
    f'needs labels, and the examples of {config.dataset.name} have none; '
    "take 'none', or a folder with a sub-folder for each class",
  )
  num_classes = None if conditioning == 'none' else num_classes
  arguments = dict(
    base_features=config.model.base_features,
    conditioning=conditioning,
    num_classes=num_classes,
    dtype=dtype,
    param_dtype=param_dtype,
  )
  arguments |= {name: config.model[name] for name in model.options}
  if model.has_extent:
    arguments['extent'] = WORLDS[config.dataset.name].extent
  augmentation = Augmentation(**config.augmentation)
  return GAN(
    generator=model.generator(
      shape,
      norm=config.model.generator_norm or model.generator_norm,
      **arguments,
    ),
    discriminator=model.discriminator(
      shape,
      norm=config.model.discriminator_norm,
      has_spectral_norm=config.model.spectral_norm,
      has_minibatch_deviation=config.model.minibatch_deviation,
      **arguments,
    ),
    generator_tx=optimisers.create(config.generator, config.num_steps),
    discriminator_tx=optimisers.create(
      config.discriminator, config.num_steps * config.discriminator_steps
    ),
    loss=LOSSES[config.loss.name],
    penalties=Penalties(
      gradient=config.penalty.gradient,
      r1=config.penalty.r1,
      r2=config.penalty.r2,
      every_steps=config.penalty.every_steps,
    ),
    max_weight=config.penalty.max_weight,
    example_shape=shape,
    num_classes=num_classes,
    latent_size=config.model.latent_size,
    latent_distribution=config.model.latent_distribution,
    discriminator_steps=config.discriminator_steps,
    packing=config.model.packing,
    ema_decay=config.ema_decay,
    flip=config.dataset.flip,
    augmentation=augmentation if any(config.augmentation.values()) else None,
    dtype=param_dtype,
  )


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
    # Flax makes them float32, and of the parameters' type after a step.
    batch_stats=optax.tree.cast(variables.get('batch_stats', {}), inputs.dtype),
    opt_state=tx.init(params),
  )


def init_state(gan: GAN, root: jax.Array) -> GANState:
  """The state before the first step, a pure function of (gan, root)."""
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
  return GANState(
    step=jnp.zeros((), jnp.int32),
    attempt=jnp.zeros((), jnp.int32),
    generator=generator,
    discriminator=discriminator,
    # A copy: a donated state must not hold one buffer twice.
    ema_params=jax.tree.map(jnp.copy, generator.params),
  )


def exported_generator(state: GANState) -> dict[str, Params]:
  """The item GENERATOR of a state: the generator's weights and their average.

  No batch statistics: sampling measures its own.
  """
  return {'params': state.generator.params, 'ema_params': state.ema_params}
