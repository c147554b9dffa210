"""A prior in training: its static part, its state and its step.

Codes are not stored: each batch of images is encoded by the model, whose
weights stand in the state and do not change. Images that are binarised at
random have new codes in each epoch.

Dimensions: B batch, H height, W width, C channels, N codes of an image, K codes
there are.
"""

import dataclasses
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax

from common_flax import optimisers
from common_flax import prng
from common_flax.config import require
from common_flax.data.batches import Batch
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from common_flax.optimisers import moving_average
from vq_flax import inference
from vq_flax import steps
from vq_flax.prior.transformer import Transformer
from vq_flax.state import Params
from vq_flax.vq import VQ

EXPORT = 'prior'  # the checkpoint item that sampling and evaluating read


@dataclasses.dataclass(frozen=True)
class Prior:
  """Everything static: the model, the network and its optimiser."""

  vq: VQ
  network: Transformer
  tx: optax.GradientTransformation
  ema_decay: float  # decay of the parameters' moving average, after warm-up
  axis: BatchAxis  # splits batches over devices

  @property
  def is_conditional(self) -> bool:
    """Whether the prior is told the class of an image."""
    return self.network.num_classes is not None


class PriorState(struct.PyTreeNode):
  """Everything that changes, and the weights of the model, which do not."""

  step: jax.Array  # int32 [], train steps completed
  attempt: jax.Array  # int32 [], rollbacks so far; folded into every stream
  params: Params
  opt_state: optax.OptState
  ema_params: Params  # moving average of params
  model: Params  # of the encoder, the decoder and the codebooks


def create_prior(
  config: ConfigDict,
  vq: VQ,
  num_classes: int | None,
  axis: BatchAxis = WHOLE_BATCH,
) -> Prior:
  """Builds the static part from a checked config.

  Args:
    config: a config that `vq_flax.prior.config.check` accepts.
    vq: the static part of the model.
    num_classes: number of classes in the data; None if it has no labels.
    axis: splits batches over devices.

  Raises:
    UserError: if the prior is conditional and the data has no labels.
  """
  is_conditional = config.prior.conditioning == 'label'
  require(
    num_classes is not None or not is_conditional,
    config,
    'prior.conditioning',
    "needs labels, and the model's data set has none; use 'none'",
  )
  dtype = jnp.dtype(config.compute_dtype)
  return Prior(
    vq=dataclasses.replace(vq, axis=axis),
    network=Transformer(
      num_cells=vq.grid[0] * vq.grid[1],
      codes_per_cell=vq.quantiser.codes_per_cell,
      num_codes=vq.quantiser.num_codes,
      num_classes=num_classes if is_conditional else None,
      width=config.prior.width,
      num_layers=config.prior.num_layers,
      num_heads=config.prior.num_heads,
      dtype=dtype,
      param_dtype=jnp.promote_types(dtype, jnp.float32),
    ),
    tx=optimisers.create(config.optimizer, config.num_steps),
    ema_decay=config.ema_decay,
    axis=axis,
  )


def init_state(prior: Prior, model: Params, root: jax.Array) -> PriorState:
  """Initialises the state, a pure function of its arguments."""
  network = prior.network
  codes = jnp.zeros((1, network.length), jnp.int32)
  labels = jnp.zeros(1, jnp.int32) if prior.is_conditional else None
  key = prng.stream(root, 'init')
  params = {'prior': network.init(key, codes, labels)['params']}
  return PriorState(
    step=jnp.zeros((), jnp.int32),
    attempt=jnp.zeros((), jnp.int32),
    params=params,
    opt_state=prior.tx.init(params),
    # Copies: a donated state must not hold one buffer twice, or another's.
    ema_params=jax.tree.map(jnp.copy, params),
    model=jax.tree.map(jnp.copy, model),
  )


def exported(state: PriorState) -> dict[str, Params]:
  """The item EXPORT: the weights, their moving average, and the model's."""
  return {
    'params': state.params,
    'ema_params': state.ema_params,
    'model': state.model,
  }


def exported_items(state: PriorState) -> dict[str, Any]:
  """The checkpoint items that sampling and evaluating read, by name."""
  return {EXPORT: exported(state)}


def log_prob(
  prior: Prior, params: Params, codes: jax.Array, labels: jax.Array | None
) -> jax.Array:
  """Log Pr(z) of codes [B, S, T, L] in nats, [B], or Pr(z|y) of a class y.

  Args:
    prior: the static part.
    params: of the network.
    codes: the codes z.
    labels: int32 [B] of a conditional prior, else None.
  """
  flat = codes.reshape(codes.shape[0], -1)
  logits = prior.network.apply({'params': params['prior']}, flat, labels)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, flat)
  return -jnp.sum(losses, axis=1)


def train_step(
  prior: Prior, state: PriorState, batch: Batch, root: jax.Array
) -> tuple[PriorState, dict[str, jax.Array]]:
  """One update of the network and of its average.

  Args:
    prior: the static part.
    state: the state, at step t.
    batch: uint8 [1, B, H, W, C] images; `Labelled` of a conditional prior.
    root: the run's root key, not consumed.

  Returns:
    The state at step t + 1; `rate_nats`, -log Pr(z) of an image, and the
    gradient norm.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  examples, labels = batch if prior.is_conditional else (batch, None)
  labels = None if labels is None else labels[0]
  x = steps.observe(prior.vq, examples[0], key)
  codes = inference.encode(prior.vq, state.model, x).codes
  rate, gradients = jax.value_and_grad(
    lambda params: -jnp.mean(log_prob(prior, params, codes, labels))
  )(state.params)
  rate, gradients = prior.axis.mean((rate, gradients))
  updates, opt_state = prior.tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = {'rate_nats': rate, 'grad_norm': optax.tree.norm(gradients)}
  ema_params = moving_average(
    state.ema_params, params, prior.ema_decay, state.step
  )
  state = state.replace(
    step=state.step + 1,
    params=params,
    opt_state=opt_state,
    ema_params=ema_params,
  )
  return state, metrics
