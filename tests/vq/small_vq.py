"""Models small enough for exact answers."""

import functools

import jax
import numpy as np

from common_flax import prng
from common_flax.distributed.sharding import WHOLE_BATCH
from vq_flax import config as vq_config
from vq_flax import steps
from vq_flax.state import init_state
from vq_flax.vq import create_vq

SHAPE = (4, 4, 1)
BATCH = 16


def configured(**changes):
  config = vq_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.num_halvings': 1,
      'model.num_blocks': 1,
      'model.base_features': 4,
      'model.num_codes': 6,
      'model.code_size': 3,
    }
    | {name.replace('__', '.'): value for name, value in changes.items()}
  )
  vq_config.check(config)
  return config


def create(dtype='float32', axis=WHOLE_BATCH, shape=SHAPE, **changes):
  fields = {'compute_dtype': dtype, **changes}
  return create_vq(configured(**fields), shape, axis=axis)


def initial(vq):
  return jax.jit(lambda: init_state(vq, prng.root_key(0)))()


def compiled(vq):
  return jax.jit(functools.partial(steps.train_step, vq))


def batches(num):
  """Bytes [num, 1, B, H, W, C]."""
  random = np.random.default_rng(0)
  return random.integers(0, 256, (num, 1, BATCH, *SHAPE), np.uint8)
