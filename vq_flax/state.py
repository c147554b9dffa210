"""The state in training: one pytree, which checkpoints store whole.

Parameters are those of the encoder, of the decoder and, of a model that has
codebooks, `codebooks` [L, K, D]: L codebooks, K entries, D features.
"""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from common_flax import prng
from vq_flax.quantisers.codebooks import Usage
from vq_flax.vq import VQ

Params = Any  # a pytree of arrays

EXPORT = 'vq'  # the checkpoint item that sampling and evaluating read


class VQState(struct.PyTreeNode):
  """Everything that changes during training."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks so far; folded into every stream
  params: Params
  opt_state: optax.OptState
  ema_params: Params  # moving average of params
  usage: Usage | None  # of each codebook: counts [L, K] and sums [L, K, D]


def init_state(vq: VQ, root: jax.Array) -> VQState:
  """Initialises the state, a pure function of (vq, root)."""
  encoder_key, decoder_key = jax.random.split(prng.stream(root, 'init'))
  x = jnp.zeros((1, *vq.image_shape), vq.dtype)
  cells = jnp.zeros((1, *vq.grid, vq.quantiser.num_features), vq.dtype)
  params = {
    'encoder': vq.encoder.init(encoder_key, x)['params'],
    'decoder': vq.decoder.init(decoder_key, cells)['params'],
  }
  usage = None
  if vq.codebooks is not None:
    key = prng.stream(root, 'init', 1)
    params['codebooks'] = vq.quantiser.init(key, vq.dtype)
    usage = _unused(params['codebooks'])
  return VQState(
    step=jnp.zeros((), jnp.int32),
    attempt=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=vq.tx.init(params),
    # A copy: a donated state must not hold one buffer twice.
    ema_params=jax.tree.map(jnp.copy, params),
    usage=usage,
  )


def _unused(codebooks: jax.Array) -> Usage:
  """The averages before the first batch."""
  return Usage(jnp.zeros_like(codebooks[..., 0]), jnp.zeros_like(codebooks))


def exported(state: VQState) -> dict[str, Params]:
  """The item EXPORT: all weights and their moving average."""
  return {'params': state.params, 'ema_params': state.ema_params}


def exported_items(state: VQState) -> dict[str, dict[str, Params]]:
  """The checkpoint items that sampling and evaluating read, by name."""
  return {EXPORT: exported(state)}


def with_weights_of(other: VQState, state: VQState) -> VQState:
  """Returns `state` with the weights of `other`; its optimiser is kept."""
  return state.replace(
    params=other.params, ema_params=other.ema_params, usage=other.usage
  )
