"""Sums over the values of an image: the fast forms are the textbook forms.

The switch is read while tracing. `partial` makes a function new to JAX, which
then traces it again.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.cpu import dispatch
from common_flax.cpu import sums

AXES = (-3, -2, -1)
PAIRS = [
  (sums.sum_values, lambda x: x.sum(axis=AXES)),
  (sums.sum_softplus, lambda x: np.logaddexp(0, x).sum(axis=AXES)),
]
# The numbers of values, 4, 6 and 9, are split into 4, 2 and 1 parts.
SHAPES = [(2, 3, 2, 2, 1), (2, 1, 2, 3), (3, 3, 1)]


def images(shape):
  x = np.random.default_rng(0).normal(0, 5, shape)
  x.flat[:2] = 0, 1e4
  return x


def value_and_gradient(function, x):
  """The values, and the gradient of the sum of their squares."""

  def loss(x):
    values = function(x)
    return jnp.sum(values**2), values

  return jax.jit(jax.grad(loss, has_aux=True))(x)[::-1]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(('function', 'expected'), PAIRS)
@pytest.mark.parametrize('form', dispatch.FORMS)
def test_sums_are_those_of_numpy(form, function, expected, shape, monkeypatch):
  monkeypatch.setenv(dispatch.VARIABLE, form)
  x = images(shape)
  with jax.enable_x64(True):
    actual = jax.jit(partial(function))(x)
  assert actual.shape == shape[:-3]
  np.testing.assert_allclose(actual, expected(x), rtol=1e-13)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('function', [function for function, _ in PAIRS])
def test_both_forms_have_the_same_gradient(function, shape, monkeypatch):
  x = images(shape)
  with jax.enable_x64(True):
    fast = value_and_gradient(function, x)
    monkeypatch.setenv(dispatch.VARIABLE, 'textbook')
    textbook = value_and_gradient(function, x)
  for actual, expected in zip(fast, textbook, strict=True):
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize('function', [function for function, _ in PAIRS])
def test_derivatives_run_forward_and_twice(function):
  """The forms may be mapped over, too."""
  x, tangent = images((2, 2, 1)), np.ones((2, 2, 1))
  with jax.enable_x64(True):
    _, forward = jax.jvp(function, (x,), (tangent,))
    np.testing.assert_allclose(forward, jax.grad(function)(x).sum())
    curvature = jax.hessian(function)(x).reshape(4, 4)
    np.testing.assert_allclose(curvature, np.diag(np.diag(curvature)))
    mapped = jax.vmap(jax.grad(function))(np.stack([x, -x]))
    np.testing.assert_allclose(mapped[1], jax.grad(function)(-x))


def test_softplus_is_exact_at_extremes_with_the_right_gradient_at_zero():
  x = np.array([-1e4, -20.0, 0.0, 1e4], np.float32).reshape(4, 1, 1, 1)
  values = sums.sum_softplus(x)
  np.testing.assert_allclose(values, np.logaddexp(0, x.ravel()), rtol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(sums.sum_softplus(x)))(x)
  assert gradient[2] == 0.5


@pytest.mark.parametrize('function', [function for function, _ in PAIRS])
def test_the_switch_turns_the_products_off(function, monkeypatch):
  monkeypatch.setenv(dispatch.VARIABLE, 'textbook')
  x = jnp.zeros((2, 2, 2, 1))
  gradient = jax.grad(lambda x: jnp.sum(function(x)))
  for traced in (partial(function), gradient):
    text = str(jax.make_jaxpr(traced)(x))
    assert 'platform_index' not in text
    assert 'dot_general' not in text


@pytest.mark.parametrize('function', [function for function, _ in PAIRS])
def test_other_platforms_take_no_products(function):
  x = jnp.zeros((2, 2, 2, 1))
  gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(function(x))))
  lowered = gradient.trace(x).lower(lowering_platforms=('cuda',))
  assert 'dot_general' not in lowered.as_text()
