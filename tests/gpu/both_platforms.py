"""Takes the same train steps on the CPU and on the GPU; prints a JSON object.

python tests/gpu/both_platforms.py FAMILY COMPUTE_DTYPE NUM_STEPS

The object holds the distance of the two results, relative to the norm of the
CPU's: of Adam's first moments, which are a tenth of the first step's gradients,
and of the parameters.
"""

import functools
import json
import sys

import jax
import numpy as np

from common_flax import prng
import gan_flax.config
import gan_flax.gan
import gan_flax.state
import gan_flax.steps
import vae_flax.config
import vae_flax.state
import vae_flax.steps
import vae_flax.vae

SHAPE = (16, 16, 1)
BATCH = 16


def build(family, compute_dtype):
  """Returns the initial state's function and the step of a small model."""
  if family == 'gan':
    config = gan_flax.config.default().unlock()
    create, state, steps = (
      gan_flax.gan.create_gan,
      gan_flax.state,
      gan_flax.steps,
    )
  else:
    config = vae_flax.config.default().unlock()
    create, state, steps = (
      vae_flax.vae.create_vae,
      vae_flax.state,
      vae_flax.steps,
    )
  config.model.base_features = 8
  config.model.latent_size = 8
  config.compute_dtype = compute_dtype
  model = create(config, SHAPE)
  return (
    functools.partial(state.init_state, model),
    jax.jit(functools.partial(steps.train_step, model)),
  )


def leaves(state, word):
  """The arrays whose path holds a word, as one vector."""
  found = [
    np.ravel(x)
    for path, x in jax.tree_util.tree_leaves_with_path(jax.device_get(state))
    if word in jax.tree_util.keystr(path)
  ]
  return np.concatenate(found)


def main(family, compute_dtype, num_steps):
  """Trains on both platforms and prints the distances."""
  jax.config.update('jax_default_matmul_precision', 'highest')  # no TF32
  init, step = build(family, compute_dtype)
  cpu, gpu = jax.devices('cpu')[0], jax.devices('gpu')[0]
  with jax.default_device(cpu):
    root = prng.root_key(0)
    initial = jax.jit(init)(root)
  random = np.random.default_rng(0)
  batches = random.integers(
    0, 256, (int(num_steps), 1, BATCH, *SHAPE), np.uint8
  )
  states = []
  for device in (cpu, gpu):
    state, key = jax.device_put((initial, root), device)
    for batch in batches:
      state, _ = step(state, jax.device_put(batch, device), key)
    states.append(state)
  distances = {}
  for name, word in {'gradients': '.mu', 'parameters': '.params'}.items():
    a, b = (leaves(state, word) for state in states)
    distances[name] = float(np.linalg.norm(a - b) / np.linalg.norm(a))
  print(json.dumps(distances))


if __name__ == '__main__':
  main(*sys.argv[1:])
