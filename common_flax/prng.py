"""Named streams of random keys, all grown from one root.

A key is a pure function of (root, stream, attempt, step): nothing random has to
be stored in a checkpoint, and a run that resumes at step t draws at step t what
the run that never stopped drew there. The root is never consumed; a key that
`stream` returns is consumed once.
"""

import jax

# Part of every run's identity: add at the end, never renumber.
STREAMS = {
  'init': 0,  # parameters
  'train': 1,  # everything a train step draws
  'preview': 2,  # latents of the grids drawn while training
  'statistics': 3,  # latents that batch statistics are measured on
  'sample': 4,  # latents of `sample`, rooted at its own --seed
  'evaluate': 5,  # what `evaluate` draws of a model, rooted at its --seed
  'observe': 6,  # what reports and pictures draw of the data
  'watch': 7,  # latents at which training is watched
}


def root_key(seed: int) -> jax.Array:
  """The root of every stream of a run. `seed` is a non-negative integer."""
  return jax.random.key(seed)


def stream(
  root: jax.Array,
  name: str,
  step: int | jax.Array = 0,
  attempt: int | jax.Array = 0,
) -> jax.Array:
  """The key of the stream `name` at a step.

  Args:
    root: the key of `root_key`, not consumed.
    name: one of STREAMS.
    step: train steps completed, int32 [].
    attempt: rollbacks taken, int32 [], so that a retry draws anew.

  Raises:
    KeyError: if there is no stream of that name.
  """
  key = jax.random.fold_in(root, STREAMS[name])
  return jax.random.fold_in(jax.random.fold_in(key, attempt), step)


def by_number(root: jax.Array, numbers: jax.Array) -> jax.Array:
  """A key for each number, keys [N], a function of (root, number) alone.

  Args:
    root: not consumed.
    numbers: int32 [N].
  """
  return jax.vmap(lambda number: jax.random.fold_in(root, number))(numbers)
