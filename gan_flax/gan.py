"""The static part of a GAN: modules, optimisers, losses, sizes.

Dimensions: H height, W width, C channels.
"""

import dataclasses

from flax import linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from common_flax import optimisers
from common_flax.config import require
from common_flax.data.worlds import WORLDS
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from gan_flax import augmentation as augmentation_lib
from gan_flax.augmentation import AdaptiveAugmentation
from gan_flax.augmentation import Augmentation
from gan_flax.losses import Loss
from gan_flax.losses import LOSSES
from gan_flax.models import MODELS
from gan_flax.penalties import Penalties


@dataclasses.dataclass(frozen=True)
class GAN:
  """Everything static: modules, optimisers, losses, sizes."""

  generator: nn.Module
  discriminator: nn.Module
  generator_tx: optax.GradientTransformation
  discriminator_tx: optax.GradientTransformation
  loss: Loss
  penalties: Penalties  # on the discriminator's input gradients
  max_weight: float | None  # bound on the discriminator's weights
  example_shape: tuple[int, ...]  # (H, W, C) of images, (2,) of points
  num_classes: int | None  # number of classes; None if unconditional
  latent_size: int
  latent_distribution: str  # 'normal' or 'uniform'
  discriminator_steps: int  # discriminator updates per generator update
  packing: int  # examples per discriminator input
  ema_decay: float  # decay of the generator's moving average, in the end
  ema_num_steps: int | None  # over which its half-life grows; None: soon
  flip: bool  # whether to mirror real images at random
  augmentation: Augmentation | None  # applied to the discriminator's inputs
  axis: BatchAxis  # splits batches over devices
  dtype: jnp.dtype  # type of examples and latents

  @property
  def is_of_points(self) -> bool:
    """Whether examples are points rather than images."""
    return len(self.example_shape) == 1

  @property
  def is_adaptive(self) -> bool:
    """Whether the state says how strongly images are distorted."""
    return isinstance(self.augmentation, AdaptiveAugmentation)

  @property
  def derives_once(self) -> bool:
    """Whether one derivative serves the loss and both penalties."""
    is_homogeneous = getattr(self.discriminator, 'is_homogeneous', False)
    return is_homogeneous and self.penalties.are_of_both

  @property
  def is_conditional(self) -> bool:
    """Whether the networks take class labels."""
    return self.num_classes is not None


def has_norms(module: nn.Module) -> bool:
  """Whether a network has norms, and so fields about their statistics."""
  return hasattr(module, 'norm')


def for_whole_batches(module: nn.Module) -> nn.Module:
  """The network for batches that are not split over devices."""
  return module.clone(axis_name=None) if has_norms(module) else module


def create_gan(
  config: ConfigDict,
  example_shape: tuple[int, ...],
  num_classes: int | None = None,
  axis: BatchAxis = WHOLE_BATCH,
) -> GAN:
  """Builds the static part of a GAN from a checked config.

  Args:
    config: a config that `gan_flax.config.check` accepts.
    example_shape: (H, W, C) of the data's images, or (2,) of its points.
    num_classes: number of classes in the data; None if it has no labels.
    axis: splits batches over devices.

  Raises:
    UserError: if the model is conditional and the data has no labels.
  """
  conditioning = config.model.conditioning
  require(
    conditioning == 'none' or num_classes is not None,
    config,
    'model.conditioning',
    f'needs labels, and {config.dataset.name} has none; '
    "use 'none', or a folder with a sub-folder for each class",
  )
  num_classes = None if conditioning == 'none' else num_classes
  shape = tuple(example_shape)
  generator, discriminator = _create_players(config, shape, num_classes, axis)
  loss = LOSSES[config.loss.name]
  return GAN(
    generator=generator,
    discriminator=discriminator,
    generator_tx=optimisers.create(config.generator, config.num_steps),
    discriminator_tx=optimisers.create(
      config.discriminator, config.num_steps * config.discriminator_steps
    ),
    loss=loss,
    penalties=_create_penalties(config),
    max_weight=config.penalty.max_weight,
    example_shape=shape,
    num_classes=num_classes,
    latent_size=config.model.latent_size,
    latent_distribution=config.model.latent_distribution,
    discriminator_steps=config.discriminator_steps,
    packing=config.model.packing,
    ema_decay=config.ema_decay,
    ema_num_steps=(
      config.num_steps if config.ema_schedule == 'cosine' else None
    ),
    flip=config.dataset.flip,
    augmentation=augmentation_lib.create(
      config.augmentation, loss.boundary, axis
    ),
    axis=axis,
    dtype=generator.param_dtype,
  )


def _create_penalties(config: ConfigDict) -> Penalties:
  return Penalties(
    gradient=config.penalty.gradient,
    r1=config.penalty.r1,
    r2=config.penalty.r2,
    every_steps=config.penalty.every_steps,
    final_share=config.penalty.final_share,
    num_steps=config.num_steps,
  )


def _create_players(
  config: ConfigDict,
  shape: tuple[int, ...],
  num_classes: int | None,
  axis: BatchAxis,
) -> tuple[nn.Module, nn.Module]:
  """Builds the generator and the discriminator."""
  dtype = jnp.dtype(config.compute_dtype)
  model = MODELS[config.model.name]
  arguments = dict(
    base_features=config.model.base_features,
    conditioning=config.model.conditioning,
    num_classes=num_classes,
    dtype=dtype,
    param_dtype=jnp.promote_types(dtype, jnp.float32),
  )
  arguments |= {name: config.model[name] for name in model.options}
  if model.has_extent:
    arguments['extent'] = WORLDS[config.dataset.name].extent
  if not model.has_norms:
    return model.generator(shape, **arguments), model.discriminator(
      shape, **arguments
    )
  arguments['axis_name'] = axis.name
  generator = model.generator(
    shape,
    norm=config.model.generator_norm or model.generator_norm,
    **arguments,
  )
  discriminator = model.discriminator(
    shape,
    norm=config.model.discriminator_norm,
    has_spectral_norm=config.model.spectral_norm,
    has_minibatch_deviation=config.model.minibatch_deviation,
    **arguments,
  )
  return generator, discriminator
