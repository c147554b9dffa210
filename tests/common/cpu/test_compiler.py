"""Compiler options: the installed XLA knows them; others are left out."""

import jax
import jax.numpy as jnp
import numpy as np

from common_flax.cpu import compiler

ALL = (
  compiler.for_single_run,
  compiler.for_dense_networks,
  compiler.for_convolutions,
)


def fresh(options):
  """The options of a first call, without the cache."""
  options.cache_clear()
  try:
    return options()
  finally:
    options.cache_clear()


def test_options_do_not_change_results():
  x = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
  for options in ALL:
    assert options()
    product = jax.jit(jnp.matmul, compiler_options=options())
    np.testing.assert_allclose(product(x, x.T), x @ x.T, atol=1e-3)


def test_this_compiler_knows_all_options():
  assert len(compiler.for_single_run()) == 2
  assert len(compiler.for_dense_networks()) == 2


def test_unknown_options_are_left_out(monkeypatch):
  unknown = {'xla_cpu_unknown_option': 'x'}
  names = (
    '_NO_YNNPACK',
    '_NO_YNNPACK_CONVOLUTIONS',
    '_WIDE_VECTORS',
    '_UNOPTIMISED',
    '_NO_EMITTERS',
  )
  for name in names:
    monkeypatch.setattr(compiler, name, unknown)
  for options in ALL:
    assert fresh(options) == {}


def test_only_a_cpu_has_options(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  for options in ALL:
    assert fresh(options) == {}
