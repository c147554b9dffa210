"""Counted operations and rates."""

import jax
import jax.numpy as jnp
import pytest

from common_flax import speed
from common_flax.nn import conv


def test_a_matrix_product_counts_two_operations_a_multiply_add():
  x, y = jnp.ones((5, 7)), jnp.ones((7, 11))
  assert speed.count_flops(jax.jit(jnp.matmul).trace(x, y)) == 2 * 5 * 7 * 11


@pytest.mark.parametrize('features', [1, 16])
def test_a_convolution_counts_as_a_direct_one(features):
  """Whatever form runs here; taps beyond the edge of the image do not count."""
  x, w = jnp.ones((2, 8, 8, features)), jnp.ones((4, 4, features, 3))
  inside = (4 * 4 - 2) ** 2  # pairs of an output and a tap, of 4 x 4 a side
  flops = speed.count_flops(jax.jit(conv.strided).trace(x, w))
  assert flops == 2 * 2 * inside * features * 3


def test_rates_are_those_of_the_step():
  rates = speed.Speed(128, 3e9, 4e10).rates(0.25)
  assert rates == {
    'images_per_second': 512,
    'step_milliseconds': 250,
    'model_gflops_per_second': 12,
    'matmul_rate_share': pytest.approx(0.3),
  }


def test_the_rate_of_a_product_is_positive(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  assert speed.matmul_flops_per_second(jnp.float32) > 1e8
