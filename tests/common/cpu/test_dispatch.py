"""The switch between textbook forms and fast forms for a CPU.

The switch is read while tracing. `partial` makes a function new to JAX, which
then traces it again.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.cpu import dispatch
from common_flax.cpu import fusion
from common_flax.errors import UserError


def one_or_two(x):
  """1 by the fast form, 2 by the textbook form: equal only in shape."""
  return dispatch.on_cpu(jnp.ones_like, lambda x: jnp.full_like(x, 2), x)


@pytest.fixture
def textbook(monkeypatch):
  monkeypatch.setenv(dispatch.VARIABLE, 'textbook')


@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit, jax.vmap])
def test_a_cpu_takes_the_fast_form(wrap):
  np.testing.assert_array_equal(wrap(partial(one_or_two))(np.zeros(3)), 1)


@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit, jax.vmap])
def test_the_switch_takes_the_textbook_form(wrap, textbook):
  np.testing.assert_array_equal(wrap(partial(one_or_two))(np.zeros(3)), 2)


def test_other_platforms_take_the_textbook_form():
  def lowered(platform):
    traced = jax.jit(lambda x: dispatch.on_cpu(jnp.tanh, jnp.cos, x)).trace(0.0)
    return traced.lower(lowering_platforms=(platform,)).as_text()

  for platform in ('cuda', 'tpu'):
    assert 'cosine' in lowered(platform)
    assert 'tanh' not in lowered(platform)
  assert 'tanh' in lowered('cpu')
  assert 'cosine' not in lowered('cpu')


def test_the_textbook_form_stands_where_no_other_is_faster():
  assert dispatch.on_cpu(None, jnp.negative, jnp.float32(3)) == -3


def test_an_unknown_form_is_refused(monkeypatch):
  monkeypatch.setenv(dispatch.VARIABLE, 'quick')
  message = '^COMMON_FLAX_CPU_FORMS=quick: must be one of fast, textbook$'
  with pytest.raises(UserError, match=message):
    one_or_two(np.zeros(3))


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_the_barrier_returns_zeros_and_ones_as_they_are(dtype):
  x = jnp.array([0, 1, 1, 0], dtype)
  result = jax.jit(fusion.computed_once)(x)
  assert result.dtype == dtype
  np.testing.assert_array_equal(result, x)


def test_the_switch_turns_the_barrier_off(textbook):
  traced = jax.make_jaxpr(partial(fusion.computed_once))(jnp.zeros(3))
  assert not traced.eqns
