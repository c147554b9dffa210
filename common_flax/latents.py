"""Numbered latents, and interpolation between latents.

Dimensions: N latents, Z latent size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from common_flax import prng


def by_number(
  draw: Callable[[jax.Array], jax.Array], key: jax.Array, numbers: jax.Array
) -> jax.Array:
  """Draws latents [N, Z]; each is a function of (key, its number) alone.

  Args:
    draw: draws one latent [Z]; consumes its key.
    key: root of the latents, not consumed.
    numbers: int32 [N].
  """
  return jax.vmap(draw)(prng.by_number(key, numbers))


def slerp(start: jax.Array, end: jax.Array, weight: jax.Array) -> jax.Array:
  """Spherical interpolation (Shoemake 1985; for latents, White 2016).

  The path stays in the shell that holds nearly all mass of N(0, I); a straight
  line would cut through its empty interior.

  Args:
    start: [Z] latent at weight 0.
    end: [Z] latent at weight 1.
    weight: [] interpolation weight in [0, 1].

  Returns:
    [Z] interpolated latent.
  """
  cosine = jnp.dot(start, end) / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
  angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
  # Parallel latents span no arc; in the limit the path is a straight line.
  is_flat = jnp.sin(angle) < 1e-6
  safe = jnp.where(is_flat, 1.0, angle)
  from_start = jnp.sin((1 - weight) * safe) / jnp.sin(safe)
  from_end = jnp.sin(weight * safe) / jnp.sin(safe)
  return jnp.where(is_flat, 1 - weight, from_start) * start + (
    jnp.where(is_flat, weight, from_end) * end
  )
