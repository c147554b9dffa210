"""Compiler options, where XLA's defaults are not the fastest on a CPU.

Every function returns {} on other platforms and leaves out options that the
installed XLA does not know.
"""

import functools

import jax

Options = dict[str, str | int | bool]

_YNNPACK = 'xla_cpu_experimental_ynn_fusion_type'
# XLA may hand operations of the named kind, and no others, to YNNPACK. Naming a
# kind that the program does not contain keeps YNNPACK out.
_NO_YNNPACK = {_YNNPACK: 'LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION'}
_NO_YNNPACK_CONVOLUTIONS = {_YNNPACK: 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'}
_WIDE_VECTORS = {
  'xla_cpu_prefer_vector_width': 512
}  # bits; XLA's choice is 256
_UNOPTIMISED = {'xla_backend_optimization_level': 0}
# XLA's older code generator compiles faster.
_NO_EMITTERS = {'xla_cpu_use_fusion_emitters': False}


@functools.cache
def for_single_run() -> Options:
  """Options for a program that runs once, and so must compile quickly."""
  return {**_where_known(_UNOPTIMISED), **_where_known(_NO_EMITTERS)}


@functools.cache
def for_dense_networks() -> Options:
  """Options for dense networks: products without YNNPACK, and wide vectors.

  XLA gives products of a few hundred rows to YNNPACK, which is slower. Random
  bits, activations and Adam gain from vectors of twice the width.
  """
  return {**_where_known(_NO_YNNPACK), **_where_known(_WIDE_VECTORS)}


@functools.cache
def for_convolutions() -> Options:
  """Options for convolutional networks: Eigen's convolutions, not YNNPACK's.

  With YNNPACK InceptionV3 takes 1.5 times as long.
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
