"""Encoding, drawing and decoding as pure functions of a VAE's parameters.

Dimensions: B batch, K importance samples, H height, W width, C channels, P
outputs per value, Z latent size.

A conditional VAE models Pr(x|y) for labels y, int32 [B], which both of its
networks see (Sohn et al. 2015, "Learning structured output representation using
deep conditional generative models"). Other VAEs have no labels, None.
"""

import itertools
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common_flax.cpu.threefry import unrolled
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from vae_flax.losses import log_normal
from vae_flax.models import hierarchical
from vae_flax.models.groups import group_shapes
from vae_flax.priors import learned
from vae_flax.priors.learned import Components
from vae_flax.state import Params
from vae_flax.vae import VAE

# What an encoder says of x: mean and log-variance [B, Z] of the posterior, or
# in a hierarchy, where they depend on z, features at every scale.
Evidence = Any


class Inferred(NamedTuple):
  """Draws of z from the posterior, with what they were drawn from.

  Attributes:
    z: [B, K, Z].
    mean: of the posterior, [B, 1, Z], or [B, K, Z] in a hierarchy.
    log_var: of the posterior, of the same shape.
    outputs: z decoded, [B, K, H, W, C, P].
    gain: [B, K], by how much a learned prior finds z more likely than N(0, I)
      does, in nats; None if the prior is N(0, I).
  """

  z: jax.Array
  mean: jax.Array
  log_var: jax.Array
  outputs: jax.Array
  gain: jax.Array | None


def prior(vae: VAE, params: Params) -> Components | None:
  """The learned prior of the top latents; None if all have N(0, I)."""
  if vae.prior is None:
    return None
  made = vae.prior.apply({'params': params['prior']})
  if isinstance(made, Components):
    return made
  found = evidence(vae, params, made, None)  # of pseudo-inputs
  if vae.scales:
    found = hierarchical.top_posterior(vae.encoder, vae.decoder, params, found)
  return learned.of_posteriors(*found)


def _gain(
  vae: VAE,
  params: Params,
  z: jax.Array,
  components: Components | None = None,
) -> jax.Array | None:
  """`Inferred.gain` of z [..., Z], [...]."""
  if components is None:
    components = prior(vae, params)
  return None if components is None else learned.gain(components, z)


def _told(vae: VAE, values: jax.Array, labels: jax.Array | None) -> jax.Array:
  """Appends one-hot labels [B] to values [B, ..., C] of a conditional VAE.

  Raises:
    ValueError: if labels are missing, or there are no classes.
  """
  if vae.is_conditional != (labels is not None):
    raise ValueError('labels are for conditional VAEs, and those need them')
  if labels is None:
    return values
  one_hot = jax.nn.one_hot(labels, vae.num_classes, dtype=values.dtype)
  inner = (1,) * (values.ndim - 2)
  one_hot = one_hot.reshape(labels.shape[0], *inner, vae.num_classes)
  shape = (*values.shape[:-1], vae.num_classes)
  return jnp.concatenate([values, jnp.broadcast_to(one_hot, shape)], axis=-1)


def evidence(
  vae: VAE, params: Params, x: jax.Array, labels: jax.Array | None = None
) -> Evidence:
  """What the encoder says of x [B, H, W, C] from `vae.observe`."""
  x = _told(vae, x, labels)
  return vae.encoder.apply({'params': params['encoder']}, x)


def encode(
  vae: VAE, params: Params, x: jax.Array, labels: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """The approximate posterior q(z|x, θ) = N(mean, exp(log_var)) (UDL 17.20).

  In a hierarchy the posterior of a group depends on the groups above; these are
  at their means here.

  Args:
    vae: the static part.
    params: parameters of both networks.
    x: [B, H, W, C] from `vae.observe`.
    labels: of a conditional VAE.

  Returns:
    Mean and log-variance, [B, Z] each.
  """
  found = evidence(vae, params, x, labels)
  if not vae.scales:
    return found
  at_mean = jnp.zeros((x.shape[0], 1, vae.latent_size), vae.dtype)
  inferred = infer(vae, params, found, at_mean)
  return inferred.mean[:, 0], inferred.log_var[:, 0]


def infer(
  vae: VAE,
  params: Params,
  found: Evidence,
  noise: jax.Array,
  labels: jax.Array | None = None,
  components: Components | None = None,
) -> Inferred:
  """Draws z from the posterior and decodes it.

  Args:
    vae: the static part.
    params: parameters of both networks.
    found: of `evidence`.
    noise: [B, K, Z] from N(0, I).
    labels: of a conditional VAE.
    components: of `prior`, if they are known already.
  """
  if vae.scales:
    z, mean, log_var, outputs = hierarchical.infer(
      vae.encoder,
      vae.decoder,
      params,
      found,
      noise.reshape(-1, vae.latent_size),
    )
    z, mean, log_var = (y.reshape(noise.shape) for y in (z, mean, log_var))
    outputs = outputs.reshape(*noise.shape[:2], *outputs.shape[1:])
    gain = _gain(vae, params, z, components)
    return Inferred(z, mean, log_var, outputs, gain)
  mean, log_var = (y[:, None] for y in found)
  z = mean + jnp.exp(0.5 * log_var) * noise
  gain = _gain(vae, params, z, components)
  return Inferred(z, mean, log_var, decode(vae, params, z, labels), gain)


def draw(
  vae: VAE,
  params: Params,
  x: jax.Array,
  key: jax.Array,
  labels: jax.Array | None = None,
) -> Inferred:
  """Draws `vae.num_importance_samples` latents per image; consumes the key."""
  found = evidence(vae, params, x, labels)
  num = vae.num_importance_samples
  if vae.scales:
    return infer(
      vae,
      params,
      found,
      _noise(key, len(x), num, vae.latent_size, vae.dtype, vae.axis),
    )
  mean, log_var = found
  z = reparameterise(key, mean, log_var, num, vae.axis)
  outputs, gain = decode(vae, params, z, labels), _gain(vae, params, z)
  return Inferred(z, mean[:, None], log_var[:, None], outputs, gain)


def _noise(
  key: jax.Array,
  batch: int,
  num_samples: int,
  latent_size: int,
  dtype: jnp.dtype,
  axis: BatchAxis,
) -> jax.Array:
  """Draws [B, K, Z] from N(0, I); consumes the key."""
  return axis.draw(
    lambda num: jax.random.normal(
      unrolled(key), (num, num_samples, latent_size), dtype
    ),
    batch,
  )


def decode(
  vae: VAE, params: Params, z: jax.Array, labels: jax.Array | None = None
) -> jax.Array:
  """Decodes latents to the parameters of the likelihood (UDL 17.6).

  Args:
    vae: the static part.
    params: parameters of both networks.
    z: [..., Z], of a conditional VAE [B, ..., Z].
    labels: of a conditional VAE.

  Returns:
    [..., H, W, C, P]: logits, or means and log-scales; see
    `common_flax.likelihoods`.
  """
  told = _told(vae, z, labels)
  outputs = vae.decoder.apply(
    {'params': params['decoder']}, told.reshape(-1, told.shape[-1])
  )
  return outputs.reshape(*z.shape[:-1], *outputs.shape[1:])


def reparameterise(
  key: jax.Array,
  mean: jax.Array,
  log_var: jax.Array,
  num_samples: int = 1,
  axis: BatchAxis = WHOLE_BATCH,
) -> jax.Array:
  """Draws z = mean + deviation * noise with noise from N(0, I) (UDL 17.25).

  The draw is differentiable with respect to `mean` and `log_var`.

  Args:
    key: consumed.
    mean: [B, Z].
    log_var: [B, Z].
    num_samples: K, draws per row.
    axis: splits the batch over devices.

  Returns:
    [B, K, Z].
  """
  batch, latent_size = mean.shape
  noise = _noise(key, batch, num_samples, latent_size, mean.dtype, axis)
  return mean[:, None] + jnp.exp(0.5 * log_var)[:, None] * noise


def per_group(vae: VAE, kl: jax.Array, gain: jax.Array | None) -> jax.Array:
  """Divergences from the prior, a group of latents at a time.

  Args:
    vae: the static part.
    kl: [..., Z] of each latent from N(0, 1), nats.
    gain: [...], of `Inferred`, or a mean of it.

  Returns:
    [..., G] of a hierarchy of G groups that have latents. One layer of latents
    with the prior N(0, I) has Z, each latent being a group, and with a learned
    prior, which is no product, it has one.
  """
  if vae.scales:
    sizes = filter(None, map(math.prod, group_shapes(vae.scales)))
    ends = list(itertools.accumulate(sizes))
    groups = jnp.split(kl, ends[:-1], axis=-1)
    kl = jnp.stack([jnp.sum(group, axis=-1) for group in groups], axis=-1)
  elif gain is not None:
    kl = jnp.sum(kl, axis=-1, keepdims=True)
  if gain is None:
    return kl
  rest = jnp.broadcast_to(kl[..., 1:], (*gain.shape, kl.shape[-1] - 1))
  return jnp.concatenate([kl[..., :1] - gain[..., None], rest], axis=-1)


def num_groups(vae: VAE) -> int:
  """G of `per_group`."""
  kl = jnp.zeros(vae.latent_size)
  return len(per_group(vae, kl, None if vae.prior is None else jnp.zeros(())))


def reconstruction(
  vae: VAE,
  params: Params,
  x: jax.Array,
  z: jax.Array,
  labels: jax.Array | None = None,
) -> jax.Array:
  """Log Pr(x|z, φ) in nats, [B, K], for x [B, H, W, C] and z [B, K, Z]."""
  outputs = decode(vae, params, z, labels)
  return vae.likelihood.log_prob(outputs, x[:, None])


def log_weights(
  vae: VAE,
  params: Params,
  x: jax.Array,
  z: jax.Array,
  mean: jax.Array,
  log_var: jax.Array,
  labels: jax.Array | None = None,
) -> jax.Array:
  """The log importance weights log Pr(x, z) - log q(z|x) (UDL 17.28).

  Args:
    vae: the static part.
    params: parameters of both networks.
    x: [B, H, W, C].
    z: [B, K, Z], drawn from q.
    mean: [B, Z], the mean of q.
    log_var: [B, Z], the log-variance of q.
    labels: of a conditional VAE.

  Returns:
    [B, K] in nats.
  """
  outputs, gain = decode(vae, params, z, labels), _gain(vae, params, z)
  inferred = Inferred(z, mean[:, None], log_var[:, None], outputs, gain)
  return log_weights_of(vae, x, inferred)


def log_weights_of(vae: VAE, x: jax.Array, inferred: Inferred) -> jax.Array:
  """The log importance weights [B, K] of draws, for x [B, H, W, C]."""
  log_prior = log_normal(inferred.z, 0.0, 0.0)
  log_posterior = log_normal(inferred.z, inferred.mean, inferred.log_var)
  divergence = jnp.sum(log_posterior - log_prior, axis=-1)
  if inferred.gain is not None:
    divergence -= inferred.gain
  return vae.likelihood.log_prob(inferred.outputs, x[:, None]) - divergence
