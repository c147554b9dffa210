"""Jitted encoding, decoding and statistics of latents.

Training uses them in reports and pictures; the commands use them on a trained
VAE.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.data.source import Source
from common_flax.latents import by_number
from common_flax.latents import of_seeds
from vae_flax import inference
from vae_flax.losses import gaussian_kl
from vae_flax.priors import learned
from vae_flax.priors.learned import Components
from vae_flax.state import Params
from vae_flax.vae import VAE

# A latent is active if the variance of its posterior mean over images exceeds
# this (Burda et al. 2015, arXiv:1509.00519, section 5).
_ACTIVE_VARIANCE = 0.01
# Number of training images for counting active latents, as in that paper.
NUM_WATCHED = 500


class Watched(NamedTuple):
  """Images that reports and pictures show.

  Attributes:
    x: [N, H, W, C] from `observe`.
    labels: int32 [N] of a conditional VAE, else None.
  """

  x: jax.Array
  labels: jax.Array | None


@functools.partial(jax.jit, static_argnums=0)
def generate(
  vae: VAE, params: Params, z: jax.Array, labels: jax.Array | None = None
) -> jax.Array:
  """Decodes latents [N, Z] to mean images, uint8 [N, H, W, C]."""
  outputs = inference.decode(vae, params, z, labels)
  return images_lib.from_unit(vae.likelihood.mean(outputs))


@functools.partial(jax.jit, static_argnums=0)
def observe(vae: VAE, key: jax.Array, images: jax.Array) -> jax.Array:
  """Draws the observations x of images uint8 [N, H, W, C]; consumes the key."""
  return vae.observe(key, images, vae.dtype)


@functools.partial(jax.jit, static_argnums=0)
def encode(
  vae: VAE, params: Params, x: jax.Array, labels: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Mean and log-variance [N, Z] of q(z|x), for x from `observe`."""
  return inference.encode(vae, params, x, labels)


@functools.partial(jax.jit, static_argnums=0)
def evidence(
  vae: VAE, params: Params, x: jax.Array, labels: jax.Array | None = None
) -> inference.Evidence:
  """What the encoder says of x [N, H, W, C] from `observe`."""
  return inference.evidence(vae, params, x, labels)


@functools.partial(jax.jit, static_argnums=0)
def prior(vae: VAE, params: Params) -> Components | None:
  """The learned prior of the top latents; None if all have N(0, I)."""
  return inference.prior(vae, params)


def draw_latents(
  vae: VAE,
  prior: Components | None,
  key: jax.Array,
  num: int,
  temperature: float = 1.0,
) -> jax.Array:
  """Draws latents [num, Z] from the prior; consumes the key.

  Args:
    vae: the static part.
    prior: from `prior`.
    key: consumed.
    num: N.
    temperature: multiplies the deviations of the prior.
  """
  shape = num, vae.latent_size
  if prior is None:
    return temperature * jax.random.normal(key, shape, vae.dtype)
  key, component_key = jax.random.split(key)
  noise = temperature * jax.random.normal(key, shape, vae.dtype)
  return learned.draw(prior, component_key, noise)


def latents_by_number(
  vae: VAE,
  prior: Components | None,
  key: jax.Array,
  numbers: jax.Array,
  temperature: float = 1.0,
) -> jax.Array:
  """Latents [N, Z] from the prior, each a function of key and number alone."""
  return by_number(
    lambda key: draw_latents(vae, prior, key, 1, temperature)[0], key, numbers
  )


def latents_of_seeds(
  vae: VAE, prior: Components | None, seeds: Sequence[int]
) -> jax.Array:
  """Latents [N, Z], each that of image 0 of one seed of `sample`."""
  return of_seeds(lambda key: draw_latents(vae, prior, key, 1)[0], seeds)


@functools.partial(jax.jit, static_argnums=0)
def observe_by_number(
  vae: VAE, key: jax.Array, images: jax.Array, numbers: jax.Array
) -> jax.Array:
  """Draws observations, each a function of the key and its number alone.

  Args:
    vae: the static part.
    key: not consumed.
    images: uint8 [N, H, W, C].
    numbers: int32 [N].

  Returns:
    x [N, H, W, C].
  """
  return jax.vmap(
    lambda key, image: vae.observe(key, image[None], vae.dtype)[0]
  )(prng.by_number(key, numbers), images)


@functools.partial(jax.jit, static_argnums=0)
def latent_use(
  vae: VAE, params: Params, x: jax.Array, labels: jax.Array | None = None
) -> dict[str, jax.Array]:
  """Measures how much the VAE uses each latent.

  Args:
    vae: the static part.
    params: parameters of both networks.
    x: [N, H, W, C] from `observe`, several hundred images.
    labels: int32 [N] of a conditional VAE.

  Returns:
    `active_units`, the number of latents whose posterior mean varies over x
    with a variance above 0.01; and `kl_per_latent_nats` [Z], the divergence
    from N(0, 1), averaged over x. In a hierarchy both are those of
    `inference.encode`, with the groups above at their means.
  """
  mean, log_var = inference.encode(vae, params, x, labels)
  is_active = jnp.var(mean, axis=0) > _ACTIVE_VARIANCE
  return {
    'active_units': jnp.sum(is_active),
    'kl_per_latent_nats': jnp.mean(gaussian_kl(mean, log_var), axis=0),
  }


def watched(vae: VAE, root: jax.Array, source: Source) -> Watched:
  """The training images used in reports and pictures, observed once.

  Args:
    vae: the static part.
    root: the run's root key, not consumed.
    source: from `observations.prepare_source`; N is at most NUM_WATCHED.
  """
  images = data.first_examples(source, NUM_WATCHED)
  x = observe(vae, prng.stream(root, 'observe'), images)
  return Watched(x, labels_of(vae, source, range(len(images))))


def labels_of(
  vae: VAE, source: Source, numbers: Iterable[int]
) -> jax.Array | None:
  """The labels [N] of examples of a source; None if the VAE takes none."""
  if not vae.is_conditional:
    return None
  return jnp.asarray([source[int(i)]['label'] for i in numbers], jnp.int32)
