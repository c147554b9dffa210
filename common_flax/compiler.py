"""Options of the compiler, where its defaults are not the fastest on a CPU."""

import functools

import jax

Options = dict[str, str | int | bool]

_YNNPACK = 'xla_cpu_experimental_ynn_fusion_type'
# Of the kinds of operations that XLA may give to the library YNNPACK, the one
# that dense networks have none of, and the one that convolutions have none of.
_NO_YNNPACK = {_YNNPACK: 'LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'}
_NO_YNNPACK_CONVOLUTIONS = {_YNNPACK: 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'}
# Bits; of a CPU that has them XLA would use 256.
_WIDE_VECTORS = {'xla_cpu_prefer_vector_width': 512}
_UNOPTIMISED = {'xla_backend_optimization_level': 0}
# XLA's older way from operations to code, which takes less time.
_NO_EMITTERS = {'xla_cpu_use_fusion_emitters': False}


@functools.cache
def hastily() -> Options:
  """For what runs once: on a CPU, to optimise it takes longer than to run."""
  return {**_where_known(_UNOPTIMISED), **_where_known(_NO_EMITTERS)}


@functools.cache
def for_dense_networks() -> Options:
  """Matrix products on all of a CPU's threads, all else in wide vectors.

  Of a few hundred rows, XLA lets YNNPACK compute products, more slowly. Random
  bits, activations and Adam gain from vectors twice as wide. An XLA that does
  not know an option is left to its own ways.
  """
  return {**_where_known(_NO_YNNPACK), **_where_known(_WIDE_VECTORS)}


@functools.cache
def for_convolutions() -> Options:
  """Convolutions with the library Eigen on a CPU.

  With YNNPACK InceptionV3 takes 1.5 times as long. An XLA that does not know
  the option is left to its own ways.
  """
  return _where_known(_NO_YNNPACK_CONVOLUTIONS)


def _where_known(options: Options) -> Options:
  if jax.default_backend() != 'cpu':
    return {}
  try:
    jax.jit(lambda: 0, compiler_options=options)()
  except jax.errors.JaxRuntimeError:
    return {}
  return options
