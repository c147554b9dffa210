"""Training by maximising a bound on log Pr(x), as pure functions (UDL 17.6).

`train_step` minimises `loss`: the negative ELBO or the negative
importance-weighted bound, depending on `vae.objective`.

Under `jax.pmap` a batch is this device's share of the global batch. Through
`vae.axis` the device draws random numbers for all and takes its own slice.

Dimensions: B batch, K importance samples, H height, W width, C channels, Z
latent size.
"""

import jax
from jax import lax
import jax.numpy as jnp
import optax

from common_flax import prng
from common_flax.data.batches import Batch
from common_flax.optimisers import moving_average
from vae_flax import inference
from vae_flax import losses
from vae_flax.state import Params
from vae_flax.state import VAEState
from vae_flax.vae import VAE

Metrics = dict[str, jax.Array]


def loss(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  step: jax.Array,
  labels: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
  """The training objective, averaged over a batch.

  Args:
    vae: the static part.
    params: parameters of both networks.
    x: [B, H, W, C] from `vae.observe`.
    key: for the draws of z; consumed.
    step: int32 [], train steps completed.
    labels: int32 [B] of a conditional VAE.

  Returns:
    The loss [] in nats, and the bound's terms in nats.
  """
  if vae.objective == 'elbo':
    return negative_elbo(vae, params, x, key, step, labels)
  if vae.objective in ('iwae', 'dreg'):
    return negative_importance_bound(vae, params, x, key, labels)
  raise ValueError(f'unknown objective {vae.objective!r}')


def negative_elbo(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  step: jax.Array,
  labels: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
  """The negative ELBO with a weighted divergence (UDL 17.18, 17.23, 17.30).

  The arguments and results are those of `loss`.
  """
  inferred = inference.draw(vae, params, x, key, labels)
  reconstruction = jnp.mean(
    vae.likelihood.log_prob(inferred.outputs, x[:, None])
  )
  if vae.has_closed_form_kl:
    kl_per_latent = jnp.mean(
      losses.gaussian_kl(inferred.mean, inferred.log_var), axis=1
    )
  else:
    kl_per_latent = losses.monte_carlo_kl(
      inferred.z, inferred.mean, inferred.log_var
    )
  gain = inferred.gain
  kl_per_group = inference.per_group(
    vae, kl_per_latent, None if gain is None else jnp.mean(gain, axis=1)
  )
  # Free bits apply to the mean over the global batch.
  kl_per_group = vae.axis.mean(jnp.mean(kl_per_group, axis=0))
  weight = losses.kl_weight(vae.beta, vae.kl_warmup_steps, step)
  divergence = losses.with_free_bits(kl_per_group, vae.free_bits_nats)
  loss_nats = weight * divergence - reconstruction
  kl = jnp.sum(kl_per_group)
  metrics = {
    'elbo_nats': reconstruction - kl,
    'reconstruction_nats': reconstruction,
    'kl_nats': kl,
  }
  if vae.total_correlation_weight:
    posteriors = vae.axis.gather((inferred.mean[:, 0], inferred.log_var[:, 0]))
    correlation = losses.total_correlation(inferred.z[:, 0], *posteriors)
    loss_nats += vae.total_correlation_weight * correlation
    metrics['total_correlation_nats'] = correlation
  return loss_nats, metrics | {'loss_nats': loss_nats}


def negative_importance_bound(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  labels: jax.Array | None = None,
) -> tuple[jax.Array, Metrics]:
  """The negative importance-weighted bound (Burda et al. 2015).

  'dreg' reports the same bound, but its gradient with respect to the encoder is
  another estimator, whose signal does not vanish as K grows: it reaches θ
  through z alone, and each draw is weighted by its squared normalised weight
  (Tucker et al. 2018, arXiv:1810.04152, equation 8).

  The arguments and results are those of `loss`.
  """
  inferred = inference.draw(vae, params, x, key, labels)
  log_weights = inference.log_weights_of(vae, x, inferred)
  bound = jnp.mean(losses.importance_bound(log_weights))
  minimised = -bound
  if vae.objective == 'dreg':
    weights = lax.stop_gradient(jax.nn.softmax(log_weights, axis=1))  # [B, K]
    frozen_mean, frozen_log_var = lax.stop_gradient(
      (inferred.mean[:, 0], inferred.log_var[:, 0])
    )
    through_z = inference.log_weights(
      vae,
      params,
      x,
      # This squares the weights in the encoder's gradient alone.
      losses.scale_gradient(inferred.z, weights),
      frozen_mean,
      frozen_log_var,
      labels,
    )
    minimised = -jnp.mean(jnp.sum(weights * through_z, axis=1))
  elbo = jnp.mean(log_weights)
  divergences = losses.gaussian_kl(inferred.mean, inferred.log_var)
  kl = jnp.mean(jnp.sum(jnp.mean(divergences, axis=1), axis=1))
  if inferred.gain is not None:
    kl -= jnp.mean(inferred.gain)
  return minimised, {
    'loss_nats': -bound,
    'iwae_nats': bound,
    'elbo_nats': elbo,
    'reconstruction_nats': elbo + kl,
    'kl_nats': kl,
  }


def train_step(
  vae: VAE, state: VAEState, batch: Batch, root: jax.Array
) -> tuple[VAEState, Metrics]:
  """One update of both networks and of their average.

  Args:
    vae: the static part.
    state: the state, at step t.
    batch: uint8 [1, B, H, W, C] images; `Labelled` of a conditional VAE.
    root: the run's root key, not consumed.

  Returns:
    The state at step t + 1; the bound's terms in nats and the gradient norm.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  observe_key, latent_key = jax.random.split(key)
  examples, labels = batch if vae.is_conditional else (batch, None)
  x = _observe(vae, examples[0], observe_key)
  labels = None if labels is None else labels[0]
  gradients, metrics = jax.grad(
    lambda params: loss(vae, params, x, latent_key, state.step, labels),
    has_aux=True,
  )(state.params)
  gradients = vae.axis.mean(gradients)
  updates, opt_state = vae.tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = vae.axis.mean(metrics)
  metrics['grad_norm'] = optax.tree.norm(gradients)
  ema_params = moving_average(
    state.ema_params, params, vae.ema_decay, state.step
  )
  state = state.replace(
    step=state.step + 1,
    params=params,
    opt_state=opt_state,
    ema_params=ema_params,
  )
  return state, metrics


def _observe(vae: VAE, batch: jax.Array, key: jax.Array) -> jax.Array:
  """uint8 [B, H, W, C] -> x [B, H, W, C], half of it mirrored if `vae.flip`."""
  key, flip_key = jax.random.split(key)
  if vae.flip:
    is_mirrored = vae.axis.draw(
      lambda num: jax.random.bernoulli(flip_key, 0.5, (num,)), len(batch)
    )
    batch = jnp.where(
      is_mirrored[:, None, None, None], batch[:, :, ::-1], batch
    )
  return vae.observe(key, batch, vae.dtype, vae.axis)
