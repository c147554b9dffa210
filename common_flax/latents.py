"""Numbered latents, and interpolation between latents.

Dimensions: N latents, K stops of a walk, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import prng
from common_flax.errors import UserError

# Latents are drawn and decoded in chunks of a fixed size, so the bits of a
# sample do not depend on how many are drawn.
CHUNK = 64

# int32 [N] -> latents [N, Z], each a function of its number alone.
LatentsOf = Callable[[np.ndarray], jax.Array]


def chunks_of_numbers(num: int) -> Iterator[np.ndarray]:
  """Yields the numbers from 0, 64 at a time, until all `num` are included."""
  for start in range(0, num, CHUNK):
    yield np.arange(start, start + CHUNK, dtype=np.int32)


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


def of_seeds(
  draw: Callable[[jax.Array], jax.Array], seeds: Sequence[int]
) -> jax.Array:
  """Draws latents [N, Z]; each is that of sample 0 of the seed.

  Args:
    draw: draws one latent [Z]; consumes its key.
    seeds: those of the command `sample`, [N].

  Raises:
    UserError: if there are none.
  """
  if not len(seeds):
    raise UserError('seeds: is empty; give at least one')
  keys = [
    jax.random.fold_in(prng.stream(prng.root_key(int(seed)), 'sample'), 0)
    for seed in seeds
  ]
  return jax.vmap(draw)(jnp.stack(keys))


def given(latents: np.ndarray) -> LatentsOf:
  """Latents [N, Z] by number; numbers beyond the last one mean the last."""
  return lambda numbers: jnp.asarray(
    latents[np.minimum(numbers, len(latents) - 1)]
  )


def num_frames(num_stops: int, frames: int, *, is_closed: bool) -> int:
  """The number of frames of a `walk`."""
  return num_stops * frames if is_closed else (num_stops - 1) * frames + 1


def walk(stops: np.ndarray, frames: int) -> LatentsOf:
  """The frames of a walk along arcs from each stop to the next.

  Frame `k * frames` is stop k itself. Behind the last stop the walk goes back
  to the first, and so on without an end.

  Args:
    stops: latents [K, Z].
    frames: number of frames from one stop to the next.
  """

  def latents_of(numbers: np.ndarray) -> jax.Array:
    legs, places = np.divmod(numbers, frames)
    starts, ends = (jnp.asarray(stops[(legs + i) % len(stops)]) for i in (0, 1))
    shares = jnp.asarray(places / frames, starts.dtype)
    return jax.vmap(slerp)(starts, ends, shares)

  return latents_of


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
  norms = jnp.linalg.norm(start) * jnp.linalg.norm(end)
  cosine = jnp.dot(start, end) / jnp.where(norms == 0, 1.0, norms)
  angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
  # Parallel latents span no arc; in the limit the path is a straight line. The
  # origin has no direction.
  is_flat = (jnp.sin(angle) < 1e-6) | (norms == 0)
  safe = jnp.where(is_flat, 1.0, angle)
  from_start = jnp.sin((1 - weight) * safe) / jnp.sin(safe)
  from_end = jnp.sin(weight * safe) / jnp.sin(safe)
  return jnp.where(is_flat, 1 - weight, from_start) * start + (
    jnp.where(is_flat, weight, from_end) * end
  )
