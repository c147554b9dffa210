"""Batches split over devices: what each device draws, and means over all."""

import functools

import jax
import numpy as np
import pytest

from common_flax.distributed import sharding
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH

NUM = 16


def draw(axis, key, num):
  return axis.draw(lambda num: jax.random.normal(key, (num, 3)), num)


@pytest.mark.parametrize('num_devices', [1, 2, 8])
def test_shares_are_those_of_one_draw(num_devices):
  key = jax.random.key(0)
  axis = BatchAxis('data')

  def share(unused_index):
    return draw(axis, key, NUM // num_devices)

  shares = jax.pmap(share, axis_name='data')(np.arange(num_devices))
  whole = draw(WHOLE_BATCH, key, NUM)
  np.testing.assert_array_equal(shares.reshape(NUM, 3), whole)


def test_means_are_over_all_shares():
  numbers = {'a': np.arange(8.0), 'b': np.ones((8, 2))}
  mean = functools.partial(jax.pmap, axis_name='data')(BatchAxis('data').mean)
  means = mean(numbers)
  np.testing.assert_array_equal(means['a'], np.full(8, 3.5))
  np.testing.assert_array_equal(means['b'], np.ones((8, 2)))
  assert WHOLE_BATCH.mean(numbers) is numbers


@pytest.mark.parametrize(
  ('parallelism', 'num_seeds', 'num_devices', 'name'),
  [
    ('jit', 1, 8, None),
    ('pmap', 1, 8, 'data'),
    ('jit', 4, 4, None),
    ('jit', 12, 6, None),
    ('jit', 11, 1, None),
  ],
)
def test_runs_are_spread_over_devices_that_share_them_out_evenly(
  parallelism, num_seeds, num_devices, name
):
  parallel = sharding.create(parallelism, num_seeds)
  assert parallel.num_devices == num_devices
  assert parallel.axis.name == name
