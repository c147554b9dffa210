"""JAX's default random generator, Threefry, with its rounds unrolled.

On a CPU, JAX lowers the generator to a loop over rounds that runs on one
thread. Unrolled rounds fuse with the code that uses the numbers and take a
sixth of the time. The numbers are the same, bit for bit.

J. Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

import functools
import math

import jax
from jax import lax
from jax.extend import random as extend_random
import jax.numpy as jnp
import numpy as np

from common_flax.cpu.dispatch import on_cpu

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_DTYPES = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}


def _rotate_left(x: jax.Array, distance: int) -> jax.Array:
  return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))


def _hash(
  key: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Threefry-2x32 with 20 rounds, of counters (x, y) under a key uint32 [2]."""
  keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
  x, y = x + keys[0], y + keys[1]
  for i in range(5):
    for distance in _ROTATIONS[i % 2]:
      x = x + y
      y = _rotate_left(y, distance) ^ x
    x = x + keys[(i + 1) % 3]
    y = y + keys[(i + 2) % 3] + np.uint32(i + 1)
  return x, y


def _unrolled_bits(
  key: jax.Array, bit_width: int, shape: tuple[int, ...]
) -> jax.Array:
  """Random unsigned integers of `bit_width` bits, [*shape]."""
  size = math.prod(shape)
  if size >= 2**32:
    raise ValueError(f'shape {shape}: draw fewer than 2^32 numbers at a time')
  counters = lax.iota(jnp.uint32, size).reshape(shape)
  x, y = _hash(key, jnp.zeros_like(counters), counters)
  if bit_width == 64:
    return (x.astype(jnp.uint64) << np.uint64(32)) | y.astype(jnp.uint64)
  return (x ^ y).astype(_DTYPES[bit_width])


def _random_bits(
  key: jax.Array, bit_width: int, shape: tuple[int, ...]
) -> jax.Array:
  return on_cpu(
    functools.partial(_unrolled_bits, bit_width=bit_width, shape=shape),
    functools.partial(
      extend_random.threefry_prng_impl.random_bits,
      bit_width=bit_width,
      shape=shape,
    ),
    key,
  )


_IMPL = extend_random.define_prng_impl(
  key_shape=extend_random.threefry_prng_impl.key_shape,
  seed=extend_random.threefry_prng_impl.seed,
  split=extend_random.threefry_prng_impl.split,
  random_bits=_random_bits,
  fold_in=extend_random.threefry_prng_impl.fold_in,
  name='threefry_unrolled',
  tag='two',
)


def unrolled(key: jax.Array) -> jax.Array:
  """Returns the same key for the unrolled generator.

  `jax.random` draws the same numbers from it. Unrolling pays for many numbers
  at a time; for a few it only costs compile time. Where the environment of JAX
  chooses another generator, the key is returned as it is.

  Args:
    key: consumed.
  """
  is_threefry = jax.random.key_impl(key) == 'threefry2x32'
  if not (is_threefry and jax.config.jax_threefry_partitionable):
    return key
  return jax.random.wrap_key_data(jax.random.key_data(key), impl=_IMPL)
