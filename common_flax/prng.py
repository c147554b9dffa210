"""Named streams of random keys, derived from one root key.

A key is a pure function of (root, stream, attempt, step). So checkpoints store
no keys, and a resumed run draws the same numbers as an uninterrupted one. The
root is never consumed; a key from `stream` is consumed once.
"""

import jax

# Every run depends on these numbers: append new ones, never renumber.
STREAMS = {
  'init': 0,  # parameters
  'train': 1,  # everything drawn in a train step
  'preview': 2,  # latents of the sample grids during training
  'statistics': 3,  # latents that batch statistics are computed from
  'sample': 4,  # latents of the command `sample`, whose --seed is the root
  'evaluate': 5,  # draws of the command `evaluate`, whose --seed is the root
  'observe': 6,  # random observations of data, in reports and pictures
  'watch': 7,  # latents that monitor training
}


def root_key(seed: int) -> jax.Array:
  """The root key of a run. `seed` is a non-negative integer."""
  return jax.random.key(seed)


def stream(
  root: jax.Array,
  name: str,
  step: int | jax.Array = 0,
  attempt: int | jax.Array = 0,
) -> jax.Array:
  """The key of a stream at a step.

  Args:
    root: key of `root_key`, not consumed.
    name: one of STREAMS.
    step: train steps completed, int32 [].
    attempt: rollbacks so far, int32 []; a retry draws new numbers.

  Raises:
    KeyError: if there is no such stream.
  """
  key = jax.random.fold_in(root, STREAMS[name])
  return jax.random.fold_in(jax.random.fold_in(key, attempt), step)


def by_number(root: jax.Array, numbers: jax.Array) -> jax.Array:
  """Derives keys [N]; each is a function of (root, its number) alone.

  Args:
    root: a key, not consumed.
    numbers: int32 [N].
  """
  return jax.vmap(lambda number: jax.random.fold_in(root, number))(numbers)
