"""Translates traced JAX functions to ONNX graphs.

It covers what the networks here do at inference. Whatever depends on weights
alone is computed once, in JAX. Broadcasts stay implicit, as in ONNX, so that no
node depends on the batch size unless a primitive needs the whole array.

ONNX operators: https://onnx.ai/onnx/operators. Opset 17 is the newest that
runtimes of 2023, including those for browsers, read.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core
import numpy as np
import onnx
from onnx import helper

from common_flax.export import operators
from common_flax.export.values import dims
from common_flax.export.values import Graph
from common_flax.export.values import untranslated
from common_flax.export.values import Value

_OPSET = 17
_IR_VERSION = 8  # of the file format, from the same year
# The parameter that holds the jaxpr of a call.
_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
  'remat2': 'jaxpr',
  'checkpoint': 'jaxpr',
}


def model_of(
  function: Callable,
  inputs: Mapping[str, jax.ShapeDtypeStruct],
  outputs: Sequence[str],
  name: str,
) -> onnx.ModelProto:
  """Translates a function to an ONNX model.

  Args:
    function: pure; takes arrays and returns an array or a tuple of them.
    inputs: shape and type of each argument by name, in which the batch size is
      the symbol `batch`.
    outputs: names of the results.
    name: of the graph.

  Raises:
    UserError: naming a primitive that cannot be translated.
  """
  traced = jax.jit(function).trace(*inputs.values()).jaxpr
  graph = Graph(next(iter(inputs)))
  arguments = [Value(name, dims(each.shape)) for name, each in inputs.items()]
  results = _translate(graph, traced.jaxpr, traced.consts, arguments)
  for name_, result, var in zip(
    outputs, results, traced.jaxpr.outvars, strict=True
  ):
    whole = graph.whole(result, var.aval.shape)
    graph.nodes.append(helper.make_node('Identity', [whole], [name_]))
  made = helper.make_graph(
    graph.nodes,
    name,
    [_info(name, each) for name, each in inputs.items()],
    [
      _info(name, var.aval)
      for name, var in zip(outputs, traced.jaxpr.outvars, strict=True)
    ],
    [
      onnx.numpy_helper.from_array(array, name)
      for name, array in graph.constants.items()
    ],
  )
  model = helper.make_model(
    made,
    opset_imports=[helper.make_opsetid('', _OPSET)],
    ir_version=_IR_VERSION,
    producer_name='common_flax.export',
  )
  onnx.checker.check_model(model, full_check=True)
  return model


def _info(name: str, spec: Any) -> onnx.ValueInfoProto:
  kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
  return helper.make_tensor_value_info(name, kind, dims(spec.shape))


def _translate(
  graph: Graph,
  jaxpr: core.Jaxpr,
  consts: Sequence[Any],
  arguments: Sequence[Value | np.ndarray],
) -> list[Value | np.ndarray]:
  """Adds the equations of a jaxpr to a graph; returns its results."""
  known: dict[core.Var, Value | np.ndarray] = {}

  def read(atom: Any) -> Value | np.ndarray:
    if isinstance(atom, core.Literal):
      return np.asarray(atom.val, atom.aval.dtype)
    return known[atom]

  known.update(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
  known.update(zip(jaxpr.invars, arguments, strict=True))
  for equation in jaxpr.eqns:
    values = [read(atom) for atom in equation.invars]
    kind = equation.primitive.name
    if kind in _CALLS:
      inner = equation.params[_CALLS[kind]]
      results = _translate(graph, inner.jaxpr, inner.consts, values)
    elif _is_constant(equation, values):
      results = equation.primitive.bind(*values, **equation.params)
      if not equation.primitive.multiple_results:
        results = [results]
      results = [np.asarray(each) for each in results]
    elif kind in operators.OPERATORS:
      results = operators.OPERATORS[kind](graph, equation, values)
      results = results if isinstance(results, list) else [results]
    else:
      raise untranslated(f"JAX's operation {kind!r}")
    known.update(zip(equation.outvars, results, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _is_constant(equation: core.JaxprEqn, values: Sequence) -> bool:
  """Whether an equation depends on weights alone and has static shapes."""
  shapes = [dims(var.aval.shape) for var in equation.outvars]
  return all(
    isinstance(value, np.ndarray) and value.shape == dims(atom.aval.shape)
    for value, atom in zip(values, equation.invars, strict=True)
  ) and not any(isinstance(size, str) for shape in shapes for size in shape)
