"""What of a VAE stays fixed while it trains, and what changes.

`VAE` holds the static things, `VAEState` is the one pytree of all that changes
and that a checkpoint stores whole. Parameters are {'encoder': θ, 'decoder': φ}
in the book's letters.

Dimensions: H height, W width, C channels, Z latent size.
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
from vae_flax import observations
from vae_flax.likelihoods import Likelihood
from vae_flax.likelihoods import LIKELIHOODS
from vae_flax.models import ACTIVATIONS
from vae_flax.models import MODELS
from vae_flax.observations import Observe

Params = Any  # a pytree of arrays

EXPORT = 'vae'  # the checkpoint item that sampling and evaluating read


@dataclasses.dataclass(frozen=True)
class VAE:
  """Everything static: modules, optimiser, likelihood, objective, sizes."""

  encoder: nn.Module
  decoder: nn.Module
  tx: optax.GradientTransformation
  likelihood: Likelihood
  observe: Observe  # from bytes to x
  objective: str  # 'elbo', 'iwae' or 'dreg'
  num_importance_samples: int  # draws of z an image
  has_closed_form_kl: bool  # else estimated from the draws
  beta: float  # weight of the divergence
  kl_warmup_steps: int
  free_bits_nats: float
  image_shape: tuple[int, int, int]  # (H, W, C)
  latent_size: int
  ema_decay: float  # of the parameters' moving average, once warmed up
  flip: bool  # mirror images at random
  dtype: jnp.dtype  # of x, z and all terms


class VAEState(struct.PyTreeNode):
  """Everything that changes."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks taken; folded into every stream
  params: Params
  opt_state: optax.OptState
  ema_params: Params  # moving average of params


def _create_observe(binarise: str, likelihood: Likelihood) -> Observe:
  if not likelihood.is_binary:
    is_density = likelihood.is_density
    return observations.dequantise if is_density else observations.scale
  # Images that are fixed are so from the start, see observations.fix.
  is_fresh = binarise == 'stochastic'
  return observations.binarise if is_fresh else observations.threshold


def create_vae(
  config: ConfigDict,
  image_shape: tuple[int, int, int],
  num_classes: int | None = None,
) -> VAE:
  """Builds the static part of a VAE from a checked config.

  Args:
    config: a config that `vae_flax.config.check` accepts.
    image_shape: (H, W, C) of the data.
    num_classes: of its labels, for which a VAE has no use.
  """
  del num_classes
  dtype = jnp.dtype(config.compute_dtype)
  param_dtype = jnp.promote_types(dtype, jnp.float32)
  model = MODELS[config.model.name]
  size = config.model[model.size_field]
  is_sequence = isinstance(size, tuple)
  likelihood = LIKELIHOODS[config.likelihood](config.likelihood_scale)
  shared = dict(
    activation=ACTIVATIONS[config.model.activation],
    dtype=dtype,
    param_dtype=param_dtype,
  )
  return VAE(
    encoder=model.encoder(
      latent_size=config.model.latent_size,
      max_log_var=config.model.max_log_var,
      **{model.size_field: size},
      **shared,
    ),
    decoder=model.decoder(
      image_shape=tuple(image_shape),
      num_outputs=likelihood.num_outputs,
      **{model.size_field: size[::-1] if is_sequence else size},
      **shared,
    ),
    tx=optimisers.create(config.optimizer, config.num_steps),
    likelihood=likelihood,
    observe=_create_observe(config.dataset.binarise, likelihood),
    objective=config.objective,
    num_importance_samples=config.num_importance_samples,
    has_closed_form_kl=config.kl == 'closed_form',
    beta=config.beta,
    kl_warmup_steps=config.kl_warmup_steps,
    free_bits_nats=config.free_bits_nats,
    image_shape=tuple(image_shape),
    latent_size=config.model.latent_size,
    ema_decay=config.ema_decay,
    flip=config.dataset.flip,
    dtype=param_dtype,
  )


def init_state(vae: VAE, root: jax.Array) -> VAEState:
  """The state before the first step, a pure function of (vae, root)."""
  encoder_key, decoder_key = jax.random.split(prng.stream(root, 'init'))
  x = jnp.zeros((1, *vae.image_shape), vae.dtype)
  z = jnp.zeros((1, vae.latent_size), vae.dtype)
  params = {
    'encoder': vae.encoder.init(encoder_key, x)['params'],
    'decoder': vae.decoder.init(decoder_key, z)['params'],
  }
  return VAEState(
    step=jnp.zeros((), jnp.int32),
    attempt=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=vae.tx.init(params),
    # A copy: a donated state must not hold one buffer twice.
    ema_params=jax.tree.map(jnp.copy, params),
  )


def exported(state: VAEState) -> dict[str, Params]:
  """The item EXPORT of a state: both networks' weights and their average."""
  return {'params': state.params, 'ema_params': state.ema_params}
