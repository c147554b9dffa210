"""Latents by their numbers, and paths between them.

Dimensions: N latents, Z latent size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from common_flax import prng


def by_number(
  draw: Callable[[jax.Array], jax.Array], key: jax.Array, numbers: jax.Array
) -> jax.Array:
  """Latents [N, Z], each a function of (key, its number) alone.

  Args:
    draw: one latent [Z] from a key that it consumes.
    key: the root of the latents, not consumed.
    numbers: int32 [N].
  """
  return jax.vmap(draw)(prng.by_number(key, numbers))


def slerp(start: jax.Array, end: jax.Array, share: jax.Array) -> jax.Array:
  """Spherical interpolation (Shoemake 1985; for latents White 2016).

  It keeps to the shell on which nearly all of N(0, I) lies; a straight line
  would cut through its empty middle.

  Args:
    start: [Z] the latent at share 0.
    end: [Z] the latent at share 1.
    share: [] how far to go.

  Returns:
    [Z].
  """
  cosine = jnp.dot(start, end) / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
  angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
  # Parallel latents span no arc; the line between them is the limit.
  is_flat = jnp.sin(angle) < 1e-6
  safe = jnp.where(is_flat, 1.0, angle)
  from_start = jnp.sin((1 - share) * safe) / jnp.sin(safe)
  from_end = jnp.sin(share * safe) / jnp.sin(safe)
  return jnp.where(is_flat, 1 - share, from_start) * start + (
    jnp.where(is_flat, share, from_end) * end
  )
