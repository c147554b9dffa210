"""Training by maximising Pr(x|z) through a quantiser, as pure functions.

The encoder is deterministic, so for the codes z of an image
-log Pr(x) <= -log Pr(x|z) - log Pr(z), whatever the prior Pr(z). A step lowers
the first term; a prior over codes is trained afterwards.

Under `jax.pmap` a batch is this device's share of the global batch. Through
`vq.axis` the device draws random numbers for all and takes its own slice, and
codebooks see the cells of the whole batch.

Dimensions: B batch, H height, W width, C channels, N cells of a batch, L
codebooks, K entries, D features.
"""

import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import optax

from common_flax import prng
from common_flax.data.batches import Batch
from common_flax.optimisers import moving_average
from vq_flax import inference
from vq_flax.quantisers import codebooks
from vq_flax.quantisers import GRADIENTS
from vq_flax.quantisers import Quantised
from vq_flax.quantisers.codebooks import Usage
from vq_flax.state import Params
from vq_flax.state import VQState
from vq_flax.vq import VQ

Metrics = dict[str, jax.Array]


def loss(
  vq: VQ, params: Params, x: jax.Array
) -> tuple[jax.Array, tuple[Metrics, Quantised]]:
  """The training objective, averaged over a batch.

  Beside -log Pr(x|z) it has the commitment, the squared distance of the cells
  to their entries, and the same distance once more for entries that are trained
  by their gradient (van den Oord et al. 2017, equation 3). Distances are summed
  over the cells of an image.

  Args:
    vq: the static part.
    params: of networks and codebooks.
    x: [B, H, W, C] from `vq.observe`.

  Returns:
    The loss [] in nats; its terms, and the codes of the batch.
  """
  quantised = inference.encode(vq, params, x)
  first = quantised.inputs[..., 0, :]
  vectors = GRADIENTS[vq.gradient](first, quantised.vectors)
  outputs = inference.decode(vq, params, vectors)
  reconstruction = jnp.mean(vq.likelihood.log_prob(outputs, x))
  fixed = lax.stop_gradient(quantised)
  commitment = _distance(quantised.inputs, fixed.entries)
  loss_nats = vq.commitment * commitment - reconstruction
  if vq.codebooks is not None and not vq.codebooks.is_averaged:
    loss_nats += _distance(fixed.inputs, quantised.entries)
  metrics = {
    'loss_nats': loss_nats,
    'reconstruction_nats': reconstruction,
    'commitment': commitment,
  }
  return loss_nats, (metrics, quantised)


def _distance(inputs: jax.Array, entries: jax.Array) -> jax.Array:
  """Squared distances summed over cells, a mean over images."""
  return jnp.sum((inputs - entries) ** 2) / len(inputs)


def train_step(
  vq: VQ, state: VQState, batch: Batch, root: jax.Array
) -> tuple[VQState, Metrics]:
  """One update of networks and codebooks, and of their average.

  Args:
    vq: the static part.
    state: the state, at step t.
    batch: uint8 [1, B, H, W, C] images.
    root: the run's root key, not consumed.

  Returns:
    The state at step t + 1; the terms of the loss, the perplexity of the codes
    of the batch and the gradient norm.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  observe_key, codebook_key = jax.random.split(key)
  start_key, restart_key = jax.random.split(codebook_key)
  x = observe(vq, batch[0], observe_key)
  if vq.codebooks is not None:
    state = _started(vq, state, x, start_key)
  gradients, (metrics, quantised) = jax.grad(
    lambda params: loss(vq, params, x), has_aux=True
  )(state.params)
  gradients, metrics = vq.axis.mean((gradients, metrics))
  updates, opt_state = vq.tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  counts = _sum(vq, inference.counts(quantised.codes, vq.quantiser.num_codes))
  metrics['perplexity'] = jnp.mean(inference.perplexity(counts))
  metrics['grad_norm'] = optax.tree.norm(gradients)
  usage = state.usage
  if vq.codebooks is not None:
    params, usage, is_new = _followed(vq, params, usage, quantised, restart_key)
  ema_params = moving_average(
    state.ema_params, params, vq.ema_decay, state.step
  )
  if vq.codebooks is not None:
    # A mean of a dead entry and of the new one would be neither.
    entries = jnp.where(
      is_new[..., None], params['codebooks'], ema_params['codebooks']
    )
    ema_params = {**ema_params, 'codebooks': entries}
  state = state.replace(
    step=state.step + 1,
    params=params,
    opt_state=opt_state,
    ema_params=ema_params,
    usage=usage,
  )
  return state, metrics


def _sum(vq: VQ, tree: Any) -> Any:
  """The sum of each array over the shares of the batch."""
  num_devices = vq.axis.total(1)
  return jax.tree.map(lambda y: y * num_devices, vq.axis.mean(tree))


def _usage(vq: VQ, quantised: Quantised) -> Usage:
  """Counts [L, K] and sums [L, K, D] of the codes of the whole batch."""
  codes, inputs = (
    y.reshape(-1, *y.shape[3:]).swapaxes(0, 1)
    for y in (quantised.codes, lax.stop_gradient(quantised.inputs))
  )
  count = functools.partial(
    codebooks.statistics, num_codes=vq.quantiser.num_codes
  )
  return _sum(vq, jax.vmap(count)(codes, inputs))


def _inputs(vq: VQ, quantised: Quantised) -> jax.Array:
  """What the codes of the whole batch were chosen for, [L, N, D]."""
  inputs = vq.axis.gather(lax.stop_gradient(quantised.inputs))
  return inputs.reshape(-1, *inputs.shape[3:]).swapaxes(0, 1)


def _started(vq: VQ, state: VQState, x: jax.Array, key: jax.Array) -> VQState:
  """Starts the codebooks at the first batch that they see."""

  def start() -> tuple[jax.Array, jax.Array, Usage]:
    entries = state.params['codebooks']
    if vq.codebooks.starts_at_clusters:
      entries = _clusters(vq, state.params, x, key)
    params = {**state.params, 'codebooks': entries}
    usage = _usage(vq, inference.encode(vq, params, x))
    # An entry that nothing chooses counts as one cell, where it is.
    is_unused = usage.counts == 0
    counts = jnp.where(is_unused, 1, usage.counts)
    sums = jnp.where(is_unused[..., None], entries, usage.sums)
    return entries, entries, Usage(counts, sums)

  def go_on() -> tuple[jax.Array, jax.Array, Usage]:
    trees = state.params, state.ema_params
    return *(tree['codebooks'] for tree in trees), state.usage

  is_first = jnp.sum(state.usage.counts) == 0
  entries, averaged, usage = lax.cond(is_first, start, go_on)
  return state.replace(
    params={**state.params, 'codebooks': entries},
    ema_params={**state.ema_params, 'codebooks': averaged},
    usage=usage,
  )


def _clusters(
  vq: VQ, params: Params, x: jax.Array, key: jax.Array
) -> jax.Array:
  """Entries [L, K, D] at clusters of what each codebook quantises."""
  entries = params['codebooks']
  for level, level_key in enumerate(jax.random.split(key, len(entries))):
    quantised = inference.encode(vq, {**params, 'codebooks': entries}, x)
    inputs = _inputs(vq, quantised)[level]
    found = codebooks.k_means(level_key, inputs, entries.shape[1])
    entries = entries.at[level].set(found)
  return entries


def _followed(
  vq: VQ,
  params: Params,
  usage: Usage,
  quantised: Quantised,
  key: jax.Array,
) -> tuple[Params, Usage, jax.Array]:
  """Codebooks after a batch: averaged, and restarted where they died.

  The last result is which entries are new, bool [L, K].
  """
  training = vq.codebooks
  entries = params['codebooks']
  usage = codebooks.follow(usage, _usage(vq, quantised), training.decay)
  is_new = jnp.zeros(usage.counts.shape, bool)
  if training.is_averaged:
    entries = jax.vmap(codebooks.means)(usage, entries)
  if training.restart_below:
    restart = functools.partial(
      codebooks.restart, threshold=training.restart_below
    )
    keys = jax.random.split(key, len(entries))
    entries, usage, is_new = jax.vmap(restart)(
      keys, entries, usage, _inputs(vq, quantised)
    )
  return {**params, 'codebooks': entries}, usage, is_new


def observe(vq: VQ, batch: jax.Array, key: jax.Array) -> jax.Array:
  """uint8 [B, H, W, C] -> x [B, H, W, C], half of it mirrored if `vq.flip`."""
  key, flip_key = jax.random.split(key)
  if vq.flip:
    is_mirrored = vq.axis.draw(
      lambda num: jax.random.bernoulli(flip_key, 0.5, (num,)), len(batch)
    )
    batch = jnp.where(
      is_mirrored[:, None, None, None], batch[:, :, ::-1], batch
    )
  return vq.observe(key, batch, vq.dtype, vq.axis)
