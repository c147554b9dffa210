"""The compiler's options: known to it where used, left out where not."""

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import compiler

ALL = (
  compiler.hastily,
  compiler.for_dense_networks,
  compiler.for_convolutions,
)


def fresh(options):
  """What a function says when it is asked for the first time."""
  options.cache_clear()
  try:
    return options()
  finally:
    options.cache_clear()


def test_options_compile_and_leave_the_result():
  x = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
  for options in ALL:
    assert options()
    product = jax.jit(jnp.matmul, compiler_options=options())
    np.testing.assert_allclose(product(x, x.T), x @ x.T, atol=1e-3)


def test_this_compiler_knows_all_options():
  assert len(compiler.hastily()) == 2
  assert len(compiler.for_dense_networks()) == 2


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
  strange = {'xla_cpu_of_another_age': 'x'}
  names = (
    '_NO_YNNPACK',
    '_NO_YNNPACK_CONVOLUTIONS',
    '_WIDE_VECTORS',
    '_UNOPTIMISED',
    '_NO_EMITTERS',
  )
  for name in names:
    monkeypatch.setattr(compiler, name, strange)
  for options in ALL:
    assert fresh(options) == {}


def test_only_a_cpu_has_options(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  for options in ALL:
    assert fresh(options) == {}
