"""The state of a VAE in training: one pytree, which checkpoints store whole.

Parameters are {'encoder': θ, 'decoder': φ} in the notation of UDL, and those of
a learned prior, 'prior'.
"""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from common_flax import prng
from vae_flax.vae import VAE

Params = Any  # a pytree of arrays

EXPORT = 'vae'  # the checkpoint item that sampling and evaluating read


class VAEState(struct.PyTreeNode):
  """Everything that changes during training."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks so far; folded into every stream
  params: Params
  opt_state: optax.OptState
  ema_params: Params  # moving average of params


def init_state(vae: VAE, root: jax.Array) -> VAEState:
  """Initialises the state, a pure function of (vae, root)."""
  encoder_key, decoder_key = jax.random.split(prng.stream(root, 'init'))
  height, width, channels = vae.image_shape
  classes = vae.num_classes or 0  # which both networks see as one-hot vectors
  x = jnp.zeros((1, height, width, channels + classes), vae.dtype)
  z = jnp.zeros((1, vae.latent_size + classes), vae.dtype)
  params = {
    'encoder': vae.encoder.init(encoder_key, x)['params'],
    'decoder': vae.decoder.init(decoder_key, z)['params'],
  }
  if vae.prior is not None:
    params['prior'] = vae.prior.init(prng.stream(root, 'init', 1))['params']
  return VAEState(
    step=jnp.zeros((), jnp.int32),
    attempt=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=vae.tx.init(params),
    # A copy: a donated state must not hold one buffer twice.
    ema_params=jax.tree.map(jnp.copy, params),
  )


def exported(state: VAEState) -> dict[str, Params]:
  """The item EXPORT: both networks' weights and their moving average."""
  return {'params': state.params, 'ema_params': state.ema_params}


def exported_items(state: VAEState) -> dict[str, dict[str, Params]]:
  """The checkpoint items that sampling and evaluating read, by name."""
  return {EXPORT: exported(state)}


def with_weights_of(other: VAEState, state: VAEState) -> VAEState:
  """Returns `state` with the weights of `other`; its optimiser is kept."""
  return state.replace(params=other.params, ema_params=other.ema_params)
