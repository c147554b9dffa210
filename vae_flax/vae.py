"""The static part of a VAE: modules, optimiser, likelihood, objective, sizes.

Dimensions: H height, W width, C channels.
"""

import dataclasses
import math
from typing import Any

from flax import linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from common_flax import optimisers
from common_flax.config import require
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from common_flax.likelihoods import fields
from common_flax.likelihoods import Likelihood
from common_flax.likelihoods import observations
from common_flax.likelihoods.observations import Observe
from common_flax.nn.activations import ACTIVATIONS
from vae_flax.models import MODELS
from vae_flax.models.groups import group_shapes
from vae_flax.models.groups import num_latents
from vae_flax.models.groups import Scale
from vae_flax.priors.learned import Mixture
from vae_flax.priors.learned import PseudoInputs


@dataclasses.dataclass(frozen=True)
class VAE:
  """Everything static: modules, optimiser, likelihood, objective, sizes."""

  encoder: nn.Module
  decoder: nn.Module
  prior: Mixture | PseudoInputs | None  # of the top latents; None is N(0, I)
  tx: optax.GradientTransformation
  likelihood: Likelihood
  observe: Observe  # maps bytes to x
  objective: str  # 'elbo', 'iwae' or 'dreg'
  num_importance_samples: int  # draws of z per image
  has_closed_form_kl: bool  # False estimates the KL from draws of z
  beta: float  # weight of the KL divergence
  kl_warmup_steps: int
  free_bits_nats: float
  total_correlation_weight: float  # added to that of the KL divergence
  image_shape: tuple[int, int, int]  # (H, W, C)
  latent_size: int  # of all groups together in a hierarchy
  scales: tuple[Scale, ...]  # of a hierarchy of latents; () for one layer
  num_classes: int | None  # that the networks are told; None if unconditional
  ema_decay: float  # decay of the parameters' moving average, after warm-up
  flip: bool  # whether to mirror images at random
  axis: BatchAxis  # splits batches over devices
  dtype: jnp.dtype  # type of x, z and all loss terms

  @property
  def is_conditional(self) -> bool:
    """Whether the networks take class labels."""
    return self.num_classes is not None

  @property
  def top_size(self) -> int:
    """The number of latents of one layer, or of a hierarchy's first group."""
    return _top_size(self.scales, self.latent_size)


def _top_size(scales: tuple[Scale, ...], latent_size: int) -> int:
  sizes = map(math.prod, group_shapes(scales))
  return next(filter(None, sizes), latent_size)


def _scales(config: ConfigDict) -> tuple[Scale, ...]:
  """The scales of a hierarchy of the fields of `config.model`, else ()."""
  if config.name != 'hierarchical':
    return ()
  return tuple(Scale(*each) for each in config.groups)


def _create_networks(
  config: ConfigDict, outputs: dict[str, Any], types: dict[str, jnp.dtype]
) -> tuple[nn.Module, nn.Module]:
  """The encoder and the decoder of the fields of `config.model`.

  Args:
    config: `config.model`.
    outputs: what the decoder is to make.
    types: types of the computation and of the parameters.
  """
  model = MODELS[config.name]
  size = config[model.size_field]
  is_sequence = isinstance(size, tuple)
  shared = dict(activation=ACTIVATIONS[config.activation], **types)
  scales = _scales(config)
  if scales:
    shared |= dict(scales=scales, max_log_var=config.max_log_var)
    return model.encoder(**shared), model.decoder(**outputs, **shared)
  return (
    model.encoder(
      latent_size=config.latent_size,
      max_log_var=config.max_log_var,
      **{model.size_field: size},
      **shared,
    ),
    model.decoder(
      **outputs,
      **{model.size_field: size[::-1] if is_sequence else size},
      **shared,
    ),
  )


def _create_prior(
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  top_size: int,
  param_dtype: jnp.dtype,
) -> Mixture | PseudoInputs | None:
  """The learned prior of the fields of `config.model`, if it has one."""
  num = config.prior_components
  if config.prior == 'mixture':
    return Mixture(num, top_size, config.max_log_var, param_dtype)
  if config.prior == 'vampprior':
    return PseudoInputs(num, image_shape, param_dtype)
  return None


def _known_classes(config: ConfigDict, num_classes: int | None) -> int | None:
  """The number of classes that the networks are told; None for none."""
  if config.model.conditioning == 'none':
    return None
  require(
    num_classes is not None,
    config,
    'model.conditioning',
    f'needs labels, and {config.dataset.name} has none; '
    "use 'none', or a folder with a sub-folder for each class",
  )
  return num_classes


def create_vae(
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  num_classes: int | None = None,
  axis: BatchAxis = WHOLE_BATCH,
) -> VAE:
  """Builds the static part of a VAE from a checked config.

  Args:
    config: a config that `vae_flax.config.check` accepts.
    image_shape: (H, W, C) of the data.
    num_classes: number of classes in the data; None if it has no labels.
    axis: splits batches over devices.

  Raises:
    UserError: if the model is conditional and the data has no labels.
  """
  dtype = jnp.dtype(config.compute_dtype)
  param_dtype = jnp.promote_types(dtype, jnp.float32)
  likelihood = fields.create(config, image_shape[-1])
  scales = _scales(config.model)
  encoder, decoder = _create_networks(
    config.model,
    dict(image_shape=tuple(image_shape), num_outputs=likelihood.num_outputs),
    dict(dtype=dtype, param_dtype=param_dtype),
  )
  latent_size = num_latents(scales) if scales else config.model.latent_size
  return VAE(
    encoder=encoder,
    decoder=decoder,
    prior=_create_prior(
      config.model,
      tuple(image_shape),
      _top_size(scales, latent_size),
      param_dtype,
    ),
    tx=optimisers.create(config.optimizer, config.num_steps),
    likelihood=likelihood,
    observe=observations.create(config.dataset.binarise, likelihood),
    objective=config.objective,
    num_importance_samples=config.num_importance_samples,
    has_closed_form_kl=config.kl == 'closed_form',
    beta=config.beta,
    kl_warmup_steps=config.kl_warmup_steps,
    free_bits_nats=config.free_bits_nats,
    total_correlation_weight=config.total_correlation_weight,
    image_shape=tuple(image_shape),
    latent_size=latent_size,
    scales=scales,
    num_classes=_known_classes(config, num_classes),
    ema_decay=config.ema_decay,
    flip=config.dataset.flip,
    axis=axis,
    dtype=param_dtype,
  )
