"""A dense VAE of 8x8 images, its batches and what its steps are held to."""

import functools

import jax
import numpy as np

from common_flax import prng
from common_flax.distributed.sharding import WHOLE_BATCH
from vae_flax import config as vae_config
from vae_flax import steps
from vae_flax.state import init_state
from vae_flax.vae import create_vae

SHAPE = (8, 8, 1)
BATCH = 16


def create(dtype='float32', axis=WHOLE_BATCH, **changes):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': 'mlp',
      'model.hidden_sizes': (12,),
      'model.latent_size': 3,
      'compute_dtype': dtype,
      **changes,
    }
  )
  return create_vae(config, SHAPE, axis=axis)


def batches(num):
  random = np.random.default_rng(0)
  return random.integers(0, 256, (num, 1, BATCH, *SHAPE), np.uint8)


def compiled(vae):
  return jax.jit(functools.partial(steps.train_step, vae))


@functools.cache
def initial(vae):
  """The state at step 0, on the host."""
  return jax.device_get(jax.jit(lambda: init_state(vae, prng.root_key(0)))())


def gradient_of(state):
  """The first gradient: Adam's first moment holds its tenth."""
  (adam, *_) = state.opt_state
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(adam.mu)])


def close(actual, expected, tolerance):
  """Every array within `tolerance` of the other's largest value, or of 1."""
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)
