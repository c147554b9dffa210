"""Grouped convolutions against the library's, forward and backward."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.cpu import dispatch
from common_flax.nn import grouped

# Input and output features and groups: many small ones, ones that do not join
# evenly, unlike sides, ones too wide to join.
SIZES = [(16, 16, 8), (30, 30, 3), (12, 6, 3), (36, 36, 2)]


def arrays(inputs, outputs, num_groups, dtype, size=3):
  keys = jax.random.split(jax.random.key(0), 3)
  return (
    jax.random.normal(keys[0], (2, 5, 4, inputs), dtype),
    jax.random.normal(
      keys[1], (size, size, inputs // num_groups, outputs), dtype
    ),
    jax.random.normal(keys[2], (2, 5, 4, outputs), dtype),
  )


def assert_close(actual, expected, tolerance):
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def derivatives(form, x, w):
  """The value, its gradients, and the gradient of the penalty R1."""

  def loss(x, w):
    return jnp.sum(form(x, w) ** 3)

  def penalty(x, w):
    return jnp.sum(jax.grad(loss)(x, w) ** 2)

  def every(x, w):
    gradients = jax.grad(loss, (0, 1))(x, w), jax.grad(penalty, (0, 1))(x, w)
    return form(x, w), gradients

  return jax.jit(every)(x, w)


@pytest.mark.parametrize('sizes', SIZES)
def test_all_derivatives_are_the_librarys(sizes):
  with jax.enable_x64(True):
    x, w, _ = arrays(*sizes, jnp.float64)
    actual = derivatives(grouped.convolution, x, w)
    expected = derivatives(grouped.library_convolution, x, w)
    assert_close(actual, expected, 1e-13)


def test_all_derivatives_are_the_librarys_in_float32():
  x, w, _ = arrays(16, 16, 4, jnp.float32)
  actual = derivatives(grouped.convolution, x, w)
  expected = derivatives(grouped.library_convolution, x, w)
  assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize('sizes', [(16, 16, 8), (12, 6, 3)])
def test_the_kernel_gradient_is_adjoint_and_differentiable(sizes):
  with jax.enable_x64(True):
    x, w, y = arrays(*sizes, jnp.float64)

    def form(x, y):
      return jnp.vdot(w, grouped.kernel_gradient(x, y, w.shape) ** 2)

    def library(x, y):
      return jnp.vdot(w, grouped.library_kernel_gradient(x, y, w.shape) ** 2)

    gradients = [jax.grad(f, (0, 1))(x, y) for f in (form, library)]
    assert_close(*gradients, 1e-12)
    np.testing.assert_allclose(
      jnp.vdot(grouped.convolution(x, w), y),
      jnp.vdot(w, grouped.kernel_gradient(x, y, w.shape)),
      rtol=1e-12,
    )


def test_other_sides_of_kernels():
  with jax.enable_x64(True):
    for size in (1, 5):
      x, w, y = arrays(6, 6, 3, jnp.float64, size)
      pulled = [
        jax.vjp(form, x, w)[1](y)
        for form in (grouped.convolution, grouped.library_convolution)
      ]
      assert_close(*pulled, 1e-13)


def test_the_switch_turns_the_cpu_forms_off(monkeypatch):
  x, w, y = arrays(16, 16, 4, jnp.float32)
  assert 'platform_index' in str(jax.make_jaxpr(grouped.convolution)(x, w))
  monkeypatch.setenv(dispatch.VARIABLE, 'textbook')
  np.testing.assert_array_equal(
    grouped.convolution(x, w), grouped.library_convolution(x, w)
  )
  np.testing.assert_array_equal(
    grouped.kernel_gradient(x, y, w.shape),
    grouped.library_kernel_gradient(x, y, w.shape),
  )


def test_the_layer_is_the_librarys():
  x, _, _ = arrays(12, 12, 3, jnp.float32)
  ours = grouped.GroupedConv(6, kernel_size=3, group_size=4, use_bias=True)
  library = nn.Conv(6, (3, 3), feature_group_count=3)
  variables = library.init(jax.random.key(1), x)
  variables['params']['bias'] += jnp.arange(6.0)
  shapes = jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x))
  assert shapes == jax.tree.map(jnp.shape, variables)
  np.testing.assert_allclose(
    ours.apply(variables, x), library.apply(variables, x), atol=1e-5
  )


def test_features_that_do_not_split_are_refused():
  layer = grouped.GroupedConv(6, kernel_size=3, group_size=5)
  with pytest.raises(ValueError, match='group_size=5: 12 input'):
    layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 12)))
