"""The compiler's options: known to it where used, left out where not."""

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import compiler


def fresh(options):
  """What `for_dense_networks` says when it is asked for the first time."""
  compiler.for_dense_networks.cache_clear()
  try:
    return options()
  finally:
    compiler.for_dense_networks.cache_clear()


def test_options_compile_and_leave_the_result():
  x = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
  for options in (compiler.hastily(), compiler.for_dense_networks()):
    assert options
    product = jax.jit(jnp.matmul, compiler_options=options)
    np.testing.assert_allclose(product(x, x.T), x @ x.T, atol=1e-3)


def test_an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
  monkeypatch.setattr(compiler, '_NO_YNNPACK', {'xla_cpu_of_another_age': 'x'})
  assert fresh(compiler.for_dense_networks) == {}


def test_only_a_cpu_has_options(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert fresh(compiler.for_dense_networks) == compiler.hastily() == {}
