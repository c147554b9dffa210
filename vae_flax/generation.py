"""Images and latents of a trained VAE, and what its latents are used for.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

import functools

import jax
import jax.numpy as jnp

from common_flax import images as images_lib
from common_flax import prng
from common_flax.latents import by_number
from vae_flax import inference
from vae_flax.losses import gaussian_kl
from vae_flax.state import Params
from vae_flax.state import VAE

# A latent whose posterior mean varies less over images than this is not used
# (Burda et al. 2015, arXiv:1509.00519, section 5).
_ACTIVE_VARIANCE = 0.01


@functools.partial(jax.jit, static_argnums=0)
def generate(vae: VAE, params: Params, z: jax.Array) -> jax.Array:
  """Latents [N, Z] -> uint8 [N, H, W, C], the decoder's mean images."""
  outputs = inference.decode(vae, params, z)
  return images_lib.from_unit(vae.likelihood.mean(outputs))


@functools.partial(jax.jit, static_argnums=0)
def observe(vae: VAE, key: jax.Array, images: jax.Array) -> jax.Array:
  """uint8 [N, H, W, C] -> x, drawn once; the key is consumed."""
  return vae.observe(key, images, vae.dtype)


@functools.partial(jax.jit, static_argnums=0)
def encode(
  vae: VAE, params: Params, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean and log-variance [N, Z] of q(z|x) at x as `observe` gives it."""
  return inference.encode(vae, params, x)


def draw_latents(vae: VAE, key: jax.Array, num: int) -> jax.Array:
  """Latents [num, Z] from the prior N(0, I); the key is consumed."""
  return jax.random.normal(key, (num, vae.latent_size), vae.dtype)


def latents_by_number(
  vae: VAE, key: jax.Array, numbers: jax.Array
) -> jax.Array:
  """Latents [N, Z] of the prior, each a function of (key, its number) alone."""
  return by_number(lambda key: draw_latents(vae, key, 1)[0], key, numbers)


@functools.partial(jax.jit, static_argnums=0)
def observe_by_number(
  vae: VAE, key: jax.Array, images: jax.Array, numbers: jax.Array
) -> jax.Array:
  """What the likelihood is of, drawn as a function of (key, number) alone.

  Args:
    vae: the static part.
    key: the root of the draws, not consumed.
    images: uint8 [N, H, W, C].
    numbers: int32 [N], of the images.

  Returns:
    x [N, H, W, C].
  """
  return jax.vmap(
    lambda key, image: vae.observe(key, image[None], vae.dtype)[0]
  )(prng.by_number(key, numbers), images)


@functools.partial(jax.jit, static_argnums=0)
def latent_use(vae: VAE, params: Params, x: jax.Array) -> dict[str, jax.Array]:
  """How the latents are used on images.

  Args:
    vae: the static part.
    params: of both networks.
    x: [N, H, W, C] as `observe` gives it, several hundred.

  Returns:
    `active_units`, how many latents' posterior means vary by more than 0.01
    over x, and `kl_per_latent_nats` [Z], the mean divergence of each.
  """
  mean, log_var = inference.encode(vae, params, x)
  is_active = jnp.var(mean, axis=0) > _ACTIVE_VARIANCE
  return {
    'active_units': jnp.sum(is_active),
    'kl_per_latent_nats': jnp.mean(gaussian_kl(mean, log_var), axis=0),
  }
