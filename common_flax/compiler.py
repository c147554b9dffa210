"""Options of the compiler, where its defaults are not the fastest on a CPU."""

import functools

import jax

Options = dict[str, str | int]


def hastily() -> Options:
  """For what runs once: on a CPU, to optimise it takes longer than to run."""
  return (
    {'xla_backend_optimization_level': 0}
    if jax.default_backend() == 'cpu'
    else {}
  )


# Of the kinds of operations that XLA may give to the library YNNPACK, the one
# that dense networks have none of.
_NO_YNNPACK = {
  'xla_cpu_experimental_ynn_fusion_type': (
    'LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'
  )
}


@functools.cache
def for_dense_networks() -> Options:
  """Matrix products on all of a CPU's threads.

  Of a few hundred rows, XLA lets YNNPACK compute them, on one thread. An XLA
  that does not know the option is left to its own ways.
  """
  if jax.default_backend() != 'cpu':
    return {}
  try:
    jax.jit(lambda: 0, compiler_options=_NO_YNNPACK)()
  except jax.errors.JaxRuntimeError:
    return {}
  return _NO_YNNPACK
