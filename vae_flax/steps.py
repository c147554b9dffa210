"""Training by maximising a bound on log Pr(x), as pure functions (UDL 17.6).

With `axis_name`, the functions run under a mapped axis: batches are this
device's share of the global batch, everything random its slice of what is drawn
for all, and gradients and metrics are means over the axis.

Dimensions: B batch, K importance samples, H height, W width, C channels, Z
latent size.
"""

import jax
from jax import lax
import jax.numpy as jnp
import optax

from common_flax import prng
from common_flax.optimisers import moving_average
from common_flax.sharding import drawn_globally
from common_flax.sharding import mean_over
from vae_flax import inference
from vae_flax import losses
from vae_flax.state import Params
from vae_flax.state import VAE
from vae_flax.state import VAEState

Metrics = dict[str, jax.Array]


def _elbo_loss(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  step: jax.Array,
  axis_name: str | None,
) -> tuple[jax.Array, Metrics]:
  """The negative ELBO, its divergence weighted (UDL 17.18, 17.23, 17.30)."""
  mean, log_var = inference.encode(vae, params, x)
  z = inference.reparameterise(
    key, mean, log_var, vae.num_importance_samples, axis_name
  )
  reconstruction = jnp.mean(inference.reconstruction(vae, params, x, z))
  if vae.has_closed_form_kl:
    kl_per_latent = losses.gaussian_kl(mean, log_var)
  else:
    kl_per_latent = losses.monte_carlo_kl(z, mean, log_var)
  kl_per_latent = jnp.mean(kl_per_latent, axis=0)
  # Over the global batch: what is free is free on average over all of it.
  kl_per_latent = mean_over(axis_name, kl_per_latent)
  weight = losses.kl_weight(vae.beta, vae.kl_warmup_steps, step)
  divergence = losses.with_free_bits(kl_per_latent, vae.free_bits_nats)
  loss = weight * divergence - reconstruction
  kl = jnp.sum(kl_per_latent)
  return loss, {
    'loss_nats': loss,
    'elbo_nats': reconstruction - kl,
    'reconstruction_nats': reconstruction,
    'kl_nats': kl,
  }


def _importance_loss(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  axis_name: str | None,
) -> tuple[jax.Array, Metrics]:
  """The negative importance-weighted bound (Burda et al. 2015).

  'dreg' reports the same bound, and minimises what gives another estimator of
  the encoder's gradient, whose signal does not drown as K grows: it reaches θ
  through z alone, each draw weighted by its squared normalised weight (Tucker
  et al. 2018, arXiv:1810.04152, equation 8).
  """
  mean, log_var = inference.encode(vae, params, x)
  z = inference.reparameterise(
    key, mean, log_var, vae.num_importance_samples, axis_name
  )
  log_weights = inference.log_weights(vae, params, x, z, mean, log_var)
  bound = jnp.mean(losses.importance_bound(log_weights))
  loss = -bound
  if vae.objective == 'dreg':
    shares = lax.stop_gradient(jax.nn.softmax(log_weights, axis=1))  # [B, K]
    frozen_mean, frozen_log_var = lax.stop_gradient((mean, log_var))
    through_z = inference.log_weights(
      vae,
      params,
      x,
      # The second factor of the square; φ keeps the first alone.
      losses.scale_gradient(z, shares),
      frozen_mean,
      frozen_log_var,
    )
    loss = -jnp.mean(jnp.sum(shares * through_z, axis=1))
  elbo = jnp.mean(log_weights)
  kl = jnp.mean(jnp.sum(losses.gaussian_kl(mean, log_var), axis=1))
  return loss, {
    'loss_nats': -bound,
    'iwae_nats': bound,
    'elbo_nats': elbo,
    'reconstruction_nats': elbo + kl,
    'kl_nats': kl,
  }


def loss(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  step: jax.Array,
  *,
  axis_name: str | None = None,
) -> tuple[jax.Array, Metrics]:
  """What training minimises, on average over a batch.

  Args:
    vae: the static part.
    params: of both networks.
    x: [B, H, W, C] as `vae.observe` gives it.
    key: of the draws of z, consumed.
    step: int32 [], train steps completed.
    axis_name: mapped axis, if any.

  Returns:
    The loss [] in nats, and the bound's terms in nats.
  """
  if vae.objective == 'elbo':
    return _elbo_loss(vae, params, x, key, step, axis_name)
  return _importance_loss(vae, params, x, key, axis_name)


def _observe(
  vae: VAE, batch: jax.Array, key: jax.Array, axis_name: str | None
) -> jax.Array:
  """uint8 [B, H, W, C] -> x [B, H, W, C], mirrored where drawn so."""
  key, flip_key = jax.random.split(key)
  if vae.flip:
    mirrored = drawn_globally(
      lambda num: jax.random.bernoulli(flip_key, 0.5, (num,)),
      len(batch),
      axis_name,
    )
    batch = jnp.where(mirrored[:, None, None, None], batch[:, :, ::-1], batch)
  return vae.observe(key, batch, vae.dtype, axis_name)


def train_step(
  vae: VAE,
  state: VAEState,
  batch: jax.Array,
  root: jax.Array,
  *,
  axis_name: str | None = None,
) -> tuple[VAEState, Metrics]:
  """One update of both networks and their average.

  Args:
    vae: the static part.
    state: the state, at step t.
    batch: uint8 [1, B, H, W, C] images.
    root: the run's root key, not consumed.
    axis_name: mapped axis, if any.

  Returns:
    The state at step t + 1, and the bound's terms in nats and the gradient
    norm.
  """
  key = prng.stream(root, 'train', state.step, state.attempt)
  observe_key, latent_key = jax.random.split(key)
  x = _observe(vae, batch[0], observe_key, axis_name)
  gradients, metrics = jax.grad(
    lambda params: loss(
      vae, params, x, latent_key, state.step, axis_name=axis_name
    ),
    has_aux=True,
  )(state.params)
  gradients = mean_over(axis_name, gradients)
  updates, opt_state = vae.tx.update(gradients, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  metrics = mean_over(axis_name, metrics)
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
