"""The stride-2 pair against the library's layers, forward and backward."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.nn import conv


def library_strided(features, size, **types):
  return nn.Conv(features, (size, size), strides=2, use_bias=False, **types)


def library_transposed(features, size, **types):
  return nn.ConvTranspose(
    features, (size, size), strides=(2, 2), use_bias=False, **types
  )


PAIRS = [
  (conv.StridedConv, library_strided),
  (conv.TransposedConv, library_transposed),
]


# Few features on the side of the image take another form than many.
FEATURES = [(1, 6), (6, 1), (6, 7)]


def check(ours, library, size, features, dtype, tolerance, order):
  """Compares value and gradients of a nonlinear function of a layer."""
  shape = tuple(np.random.default_rng(size).integers(1, 5, 3) * (1, 2, 2))
  types = {'dtype': dtype, 'param_dtype': dtype}
  inputs, outputs = features
  x = jax.random.normal(jax.random.key(0), (*shape, inputs), dtype)
  layers = [ours(outputs, size, **types), library(outputs, size, **types)]
  variables = layers[1].init(jax.random.key(1), x)

  def gradients(layer):
    def loss(variables, x):
      return jnp.sum(layer.apply(variables, x) ** 3)

    if order == 1:
      return jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, x)

    def penalty(variables):
      return jnp.sum(jax.grad(loss, 1)(variables, x) ** 2)

    return jax.jit(jax.grad(penalty))(variables)

  actual, expected = map(gradients, layers)
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('size', [2, 3, 4, 5, 6])
@pytest.mark.parametrize('features', FEATURES)
def test_layer_is_the_librarys_in_float64(ours, library, size, features):
  with jax.enable_x64(True):
    check(ours, library, size, features, jnp.float64, 1e-13, order=1)


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('features', FEATURES)
def test_gradient_of_a_gradient_is_the_librarys(ours, library, features):
  with jax.enable_x64(True):
    check(ours, library, 4, features, jnp.float64, 1e-13, order=2)


@pytest.mark.parametrize(('ours', 'library'), PAIRS)
@pytest.mark.parametrize('features', FEATURES)
def test_layer_is_the_librarys_in_float32(ours, library, features):
  check(ours, library, 4, features, jnp.float32, 1e-5, order=1)


@pytest.mark.parametrize('size', [2, 3, 4, 5])
def test_every_form_of_an_operation_gives_the_same(size):
  """What a GPU or a TPU runs is otherwise never run on a CPU."""
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 8, 6, 3), jnp.float64)
    w = jax.random.normal(keys[1], (size, size, 3, 4), jnp.float64)
    y = jax.random.normal(keys[2], (2, 4, 3, 4), jnp.float64)
    expected = conv._library_transposed(y, w)
    for form in (conv._phased_transposed, conv._matmul_transposed):
      np.testing.assert_allclose(form(y, w), expected, atol=1e-12)
    np.testing.assert_allclose(
      conv._matmul_kernel_gradient(x, y, size),
      conv._library_kernel_gradient(x, y, size),
      atol=1e-12,
    )


@pytest.mark.parametrize('features', [3, 5])
def test_the_three_forms_are_adjoint(features):
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 8, 6, features), jnp.float64)
    w = jax.random.normal(keys[1], (5, 5, features, 4), jnp.float64)
    y = jax.random.normal(keys[2], (2, 4, 3, 4), jnp.float64)
    form = jnp.vdot(conv.strided(x, w), y)
    assert jnp.allclose(form, jnp.vdot(x, conv.transposed(y, w)), rtol=1e-12)
    assert jnp.allclose(
      form, jnp.vdot(w, conv.kernel_gradient(x, y, 5)), rtol=1e-12
    )


def test_odd_images_are_refused():
  with pytest.raises(ValueError, match='even'):
    conv.StridedConv(2, 4).init(jax.random.key(0), jnp.zeros((1, 7, 8, 1)))
