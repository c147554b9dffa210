"""The ONNX operators of JAX's primitives, one function each.

A function takes the graph, the equation of the jaxpr and its arguments, each a
`Value` of the graph or a NumPy array that is known, and returns the result.

Dimensions: B batch, H height, W width, I input and O output features.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from common_flax.export import products
from common_flax.export.values import dims
from common_flax.export.values import Graph
from common_flax.export.values import result
from common_flax.export.values import untranslated
from common_flax.export.values import Value
from common_flax.export.values import whole


def _operands(graph: Graph, values: list) -> list[Value]:
  """The arguments by name, with their broadcasts left implicit."""
  return [
    Value(graph.constant(value), value.shape)
    if isinstance(value, np.ndarray)
    else value
    for value in values
  ]


def _broadcast_shape(equation: Any, operands: list[Value]) -> tuple:
  """The shape of an elementwise result, 1 where all operands are broadcast."""
  shape = dims(equation.outvars[0].aval.shape)
  padded = [(1,) * (len(shape) - len(x.shape)) + x.shape for x in operands]
  return tuple(
    1 if all(x[axis] == 1 for x in padded) else size
    for axis, size in enumerate(shape)
  )


def _elementwise(
  build: Callable[..., str],
) -> Callable[[Graph, Any, list], Value]:
  """A primitive that `build(graph, equation, *names)` states elementwise."""

  def translate(graph: Graph, equation: Any, values: list) -> Value:
    operands = _operands(graph, values)
    name = build(graph, equation, *(each.name for each in operands))
    return Value(name, _broadcast_shape(equation, operands))

  return translate


def _named(operator: str) -> Callable[[Graph, Any, list], Value]:
  """A primitive that is one operator of ONNX."""
  return _elementwise(lambda graph, _, *names: graph.add(operator, *names))


def _one(graph: Graph, equation: Any) -> str:
  return graph.constant(np.ones((), equation.outvars[0].aval.dtype))


def _cast(graph: Graph, equation: Any, x: str) -> str:
  dtype = np.dtype(equation.params['new_dtype'])
  return graph.add('Cast', x, to=helper.np_dtype_to_tensor_dtype(dtype))


def _integer_pow(graph: Graph, equation: Any, x: str) -> str:
  power = np.asarray(equation.params['y'], equation.outvars[0].aval.dtype)
  return graph.add('Pow', x, graph.constant(power))


def _not_equal(graph: Graph, equation: Any, x: str, y: str) -> str:
  return graph.add('Not', graph.add('Equal', x, y))


def _select(graph: Graph, equation: Any, which: str, *cases: str) -> str:
  if len(cases) != 2 or equation.invars[0].aval.dtype != np.bool_:
    raise untranslated('a choice of more than two cases')
  return graph.add('Where', which, cases[1], cases[0])


def _broadcast(graph: Graph, equation: Any, values: list) -> Any:
  """Reshapes to the rank of the result; the broadcast stays implicit."""
  places = equation.params['broadcast_dimensions']
  rank = len(equation.outvars[0].aval.shape)
  value = values[0]
  shape = [1] * rank
  for place, size in zip(places, value.shape, strict=True):
    shape[place] = size
  if isinstance(value, np.ndarray):
    return value.reshape(shape)
  return Value(_reshaped(graph, value.name, shape), tuple(shape))


def _reshaped(graph: Graph, name: str, shape: Any) -> str:
  sizes = [-1 if isinstance(size, str) else size for size in shape]
  if sizes.count(-1) > 1:
    raise untranslated('a reshape with two sizes that depend on the batch')
  return graph.add('Reshape', name, graph.constant(np.int64(sizes)))


def _reshape(graph: Graph, equation: Any, values: list) -> Value:
  shape = dims(equation.outvars[0].aval.shape)
  name = _reshaped(graph, whole(graph, equation, values), shape)
  return Value(name, shape)


def _transpose(graph: Graph, equation: Any, values: list) -> Value:
  order = list(equation.params['permutation'])
  value = _operands(graph, values)[0]
  shape = tuple(value.shape[axis] for axis in order)
  return Value(graph.add('Transpose', value.name, perm=order), shape)


def _concatenate(graph: Graph, equation: Any, values: list) -> Value:
  names = [whole(graph, equation, values, i) for i in range(len(values))]
  axis = equation.params['dimension']
  return result(graph.add('Concat', *names, axis=axis), equation)


def _stack(graph: Graph, equation: Any, values: list) -> Value:
  """Gives each array an axis of size 1, then joins them along it."""
  axis = equation.params['axis']
  names = []
  for i, each in enumerate(equation.invars):
    shape = list(dims(each.aval.shape))
    shape.insert(axis, 1)
    names.append(_reshaped(graph, whole(graph, equation, values, i), shape))
  return result(graph.add('Concat', *names, axis=axis), equation)


def _slice(graph: Graph, equation: Any, values: list) -> Value:
  params = equation.params
  strides = params['strides'] or (1,) * len(params['start_indices'])
  before = dims(equation.invars[0].aval.shape)
  limits = dims(params['limit_indices'])
  axes = [
    axis
    for axis, size in enumerate(before)
    if limits[axis] != size
    or params['start_indices'][axis]
    or strides[axis] > 1
  ]
  name = whole(graph, equation, values)
  if axes:
    name = _cut(
      graph,
      name,
      [params['start_indices'][axis] for axis in axes],
      [limits[axis] for axis in axes],
      axes,
      [strides[axis] for axis in axes],
    )
  return result(name, equation)


def _cut(graph: Graph, name: str, *numbers: list) -> str:
  """The operator Slice: starts, ends, axes, steps."""
  if any(isinstance(x, str) for each in numbers for x in each):
    raise untranslated('a slice that depends on the batch size')
  constants = [graph.constant(np.int64(each)) for each in numbers]
  return graph.add('Slice', name, *constants)


def _split(graph: Graph, equation: Any, values: list) -> list[Value]:
  axis, start = equation.params['axis'], 0
  name, parts = whole(graph, equation, values), []
  for size, var in zip(equation.params['sizes'], equation.outvars, strict=True):
    part = _cut(graph, name, [start], [start + size], [axis], [1])
    parts.append(Value(part, dims(var.aval.shape)))
    start += size
  return parts


def _gather(graph: Graph, equation: Any, values: list) -> Value:
  """`x[:, i]` for a known i, which JAX traces so if the batch is a symbol."""
  numbers = equation.params['dimension_numbers']
  index, axes = values[1], tuple(numbers.start_index_map)
  is_one = isinstance(index, np.ndarray) and index.shape == (1,)
  sizes, shape = equation.params['slice_sizes'], equation.invars[0].aval.shape
  is_whole = all(
    size == full or axis in axes
    for axis, (size, full) in enumerate(zip(sizes, shape, strict=True))
  )
  is_one = is_one and is_whole
  if not is_one or tuple(numbers.collapsed_slice_dims) != axes:
    raise untranslated('indexing with arrays')
  chosen = graph.constant(np.int64(index[0]))
  name = whole(graph, equation, values)
  return result(graph.add('Gather', name, chosen, axis=axes[0]), equation)


def _rev(graph: Graph, equation: Any, values: list) -> Value:
  axes = list(equation.params['dimensions'])
  count = len(axes)
  name = whole(graph, equation, values)
  least = np.iinfo(np.int64).min
  name = _cut(graph, name, [-1] * count, [least] * count, axes, [-1] * count)
  return result(name, equation)


def _pad(graph: Graph, equation: Any, values: list) -> Value:
  config = equation.params['padding_config']
  if any(low < 0 or high < 0 or inner for low, high, inner in config):
    raise untranslated('padding that is negative or between elements')
  sizes = [low for low, _, _ in config] + [high for _, high, _ in config]
  fill = _operands(graph, values)[1].name
  name = graph.add(
    'Pad',
    whole(graph, equation, values),
    graph.constant(np.int64(sizes)),
    fill,
  )
  return result(name, equation)


def _sum(graph: Graph, equation: Any, values: list) -> Value:
  axes = graph.constant(np.int64(equation.params['axes']))
  name = whole(graph, equation, values)
  return result(graph.add('ReduceSum', name, axes, keepdims=0), equation)


def _extreme(operator: str) -> Callable[[Graph, Any, list], Value]:
  def translate(graph: Graph, equation: Any, values: list) -> Value:
    axes = list(equation.params['axes'])
    name = whole(graph, equation, values)
    name = graph.add(operator, name, axes=axes, keepdims=0)
    return result(name, equation)

  return translate


OPERATORS: dict[str, Callable[[Graph, Any, list], Any]] = {
  **{
    primitive: _named(operator)
    for primitive, operator in {
      'abs': 'Abs',
      'add': 'Add',
      'add_any': 'Add',
      'and': 'And',
      'ceil': 'Ceil',
      'copy': 'Identity',
      'copy_p': 'Identity',
      'cos': 'Cos',
      'div': 'Div',
      'eq': 'Equal',
      'erf': 'Erf',
      'exp': 'Exp',
      'floor': 'Floor',
      'ge': 'GreaterOrEqual',
      'gt': 'Greater',
      'le': 'LessOrEqual',
      'log': 'Log',
      'logistic': 'Sigmoid',
      'lt': 'Less',
      'max': 'Max',
      'min': 'Min',
      'mul': 'Mul',
      'neg': 'Neg',
      'not': 'Not',
      'or': 'Or',
      'pow': 'Pow',
      'sign': 'Sign',
      'sin': 'Sin',
      'sqrt': 'Sqrt',
      'stop_gradient': 'Identity',
      'sub': 'Sub',
      'tanh': 'Tanh',
    }.items()
  },
  'clamp': _elementwise(
    lambda graph, _, low, x, high: graph.add(
      'Min', graph.add('Max', x, low), high
    )
  ),
  'convert_element_type': _elementwise(_cast),
  'expm1': _elementwise(
    lambda graph, equation, x: graph.add(
      'Sub', graph.add('Exp', x), _one(graph, equation)
    )
  ),
  'integer_pow': _elementwise(_integer_pow),
  'log1p': _elementwise(
    lambda graph, equation, x: graph.add(
      'Log', graph.add('Add', x, _one(graph, equation))
    )
  ),
  'ne': _elementwise(_not_equal),
  'rsqrt': _elementwise(
    lambda graph, _, x: graph.add('Reciprocal', graph.add('Sqrt', x))
  ),
  'select_n': _elementwise(_select),
  'square': _elementwise(lambda graph, _, x: graph.add('Mul', x, x)),
  'broadcast_in_dim': _broadcast,
  'concatenate': _concatenate,
  'conv_general_dilated': products.conv,
  'dot_general': products.dot,
  'expand_dims': _reshape,
  'gather': _gather,
  'pad': _pad,
  'reduce_max': _extreme('ReduceMax'),
  'reduce_min': _extreme('ReduceMin'),
  'reduce_sum': _sum,
  'reshape': _reshape,
  'rev': _rev,
  'slice': _slice,
  'split': _split,
  'squeeze': _reshape,
  'stack': _stack,
  'transpose': _transpose,
}
