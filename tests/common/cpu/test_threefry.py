"""The unrolled generator draws the same numbers as JAX's own."""

import functools

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from common_flax.cpu import dispatch
from common_flax.cpu.threefry import unrolled
from common_flax.distributed import sharding


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize('shape', [(), (7,), (3, 5, 2)])
def test_bits_are_those_of_jax(dtype, shape):
  key = jax.random.key(5)
  np.testing.assert_array_equal(
    jax.random.bits(unrolled(key), shape, dtype),
    jax.random.bits(key, shape, dtype),
  )


def test_64_bits_are_those_of_jax():
  with jax.enable_x64(True):
    key = jax.random.key(2**40 + 3)
    np.testing.assert_array_equal(
      jax.random.bits(unrolled(key), (9,), np.uint64),
      jax.random.bits(key, (9,), np.uint64),
    )


@pytest.mark.parametrize('draw', [jax.random.normal, jax.random.uniform])
def test_floats_are_those_of_jax_compiled_or_not(draw):
  key = jax.random.fold_in(jax.random.key(1), 3)
  expected = draw(key, (1000,))
  np.testing.assert_allclose(draw(unrolled(key), (1000,)), expected, 1e-6)
  compiled = jax.jit(lambda key: draw(unrolled(key), (1000,)))
  np.testing.assert_allclose(compiled(key), expected, 1e-6)


def test_keys_may_be_mapped_over():
  keys = jax.random.split(jax.random.key(0), 4)
  bits = jax.vmap(lambda key: jax.random.bits(unrolled(key), (6,)))(keys)
  for row, key in zip(bits, keys, strict=True):
    np.testing.assert_array_equal(row, jax.random.bits(key, (6,)))


def test_numbers_do_not_depend_on_the_number_of_devices():
  mesh = sharding.create_mesh()
  split = NamedSharding(mesh, PartitionSpec(sharding.AXIS))
  key = jax.random.key(3)
  bits = jax.jit(
    lambda: jax.random.bits(unrolled(key), (16, 3)), out_shardings=split
  )()
  np.testing.assert_array_equal(bits, jax.random.bits(key, (16, 3)))


def test_the_switch_leaves_jax_its_own_generator(monkeypatch):
  key = jax.random.key(3)

  def draw(key):
    return jax.random.bits(unrolled(key), (5,))

  def is_unrolled():
    lowered = jax.jit(functools.partial(draw)).lower(key)
    return 'stablehlo.case' in lowered.as_text()

  assert is_unrolled()
  monkeypatch.setenv(dispatch.VARIABLE, 'textbook')
  assert not is_unrolled()
  np.testing.assert_array_equal(draw(key), jax.random.bits(key, (5,)))


@pytest.mark.parametrize('implementation', ['rbg', 'unsafe_rbg'])
def test_keys_of_another_generator_are_left_alone(implementation):
  key = jax.random.key(3, impl=implementation)
  np.testing.assert_array_equal(
    jax.random.bits(unrolled(key), (5,)), jax.random.bits(key, (5,))
  )


def test_numbers_are_those_of_jax_if_its_older_order_is_asked_for():
  key = jax.random.key(3)
  with jax.threefry_partitionable(False):
    np.testing.assert_array_equal(
      jax.random.bits(unrolled(key), (5,)), jax.random.bits(key, (5,))
    )
