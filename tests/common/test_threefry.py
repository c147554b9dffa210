"""The written-out generator draws the numbers of JAX's own."""

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from common_flax import sharding
from common_flax.threefry import written_out


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize('shape', [(), (7,), (3, 5, 2)])
def test_bits_are_those_of_jax(dtype, shape):
  key = jax.random.key(5)
  np.testing.assert_array_equal(
    jax.random.bits(written_out(key), shape, dtype),
    jax.random.bits(key, shape, dtype),
  )


def test_64_bits_are_those_of_jax():
  with jax.enable_x64(True):
    key = jax.random.key(2**40 + 3)
    np.testing.assert_array_equal(
      jax.random.bits(written_out(key), (9,), np.uint64),
      jax.random.bits(key, (9,), np.uint64),
    )


@pytest.mark.parametrize('draw', [jax.random.normal, jax.random.uniform])
def test_floats_are_those_of_jax_compiled_or_not(draw):
  key = jax.random.fold_in(jax.random.key(1), 3)
  expected = draw(key, (1000,))
  np.testing.assert_allclose(draw(written_out(key), (1000,)), expected, 1e-6)
  compiled = jax.jit(lambda key: draw(written_out(key), (1000,)))
  np.testing.assert_allclose(compiled(key), expected, 1e-6)


def test_keys_may_be_mapped_over():
  keys = jax.random.split(jax.random.key(0), 4)
  bits = jax.vmap(lambda key: jax.random.bits(written_out(key), (6,)))(keys)
  for row, key in zip(bits, keys, strict=True):
    np.testing.assert_array_equal(row, jax.random.bits(key, (6,)))


def test_numbers_do_not_depend_on_the_devices():
  mesh = sharding.create_mesh()
  split = NamedSharding(mesh, PartitionSpec(sharding.AXIS))
  key = jax.random.key(3)
  bits = jax.jit(
    lambda: jax.random.bits(written_out(key), (16, 3)), out_shardings=split
  )()
  np.testing.assert_array_equal(bits, jax.random.bits(key, (16, 3)))
