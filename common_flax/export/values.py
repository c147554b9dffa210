"""The nodes and arrays of an ONNX graph that is being built."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import onnx
from onnx import helper

from common_flax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Value:
  """An array of the graph; a shape has 1 where a broadcast is left implicit."""

  name: str
  shape: tuple[int | str, ...]  # 'batch' for the batch size


class Graph:
  """The nodes and constants of a graph that is being built."""

  def __init__(self, batch_of: str):
    """Creates an empty graph.

    Args:
      batch_of: name of an input whose first axis is the batch.
    """
    self.nodes: list[onnx.NodeProto] = []
    self.constants: dict[str, np.ndarray] = {}
    self._names: dict[tuple, str] = {}
    self._batch_of = batch_of

  def constant(self, array: Any) -> str:
    """The name of a constant, which equal constants share."""
    array = np.asarray(array)
    content = (array.dtype.str, array.shape, array.tobytes())
    if content not in self._names:
      self._names[content] = f'constant_{len(self._names)}'
      self.constants[self._names[content]] = array
    return self._names[content]

  def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node with one output; returns the output's name."""
    output = f'{operator.lower()}_{len(self.nodes)}'
    self.nodes.append(
      helper.make_node(operator, inputs, [output], **attributes)
    )
    return output

  def whole(self, value: Value | np.ndarray, shape: Sequence) -> str:
    """The name of a value whose broadcasts to `shape` are carried out."""
    shape = dims(shape)
    if isinstance(value, np.ndarray):
      value = Value(self.constant(value), value.shape)
    if value.shape == shape:
      return value.name
    if any(isinstance(size, str) and size != 'batch' for size in shape):
      raise untranslated('a broadcast to a multiple of the batch size')
    sizes = [
      self._batch() if size == 'batch' else self.constant(np.int64([size]))
      for size in shape
    ]
    return self.add('Expand', value.name, self.add('Concat', *sizes, axis=0))

  def _batch(self) -> str:
    return self.add('Shape', self._batch_of, start=0, end=1)


def dims(shape: Sequence) -> tuple[int | str, ...]:
  """A shape in which symbolic sizes are text."""
  return tuple(x if isinstance(x, int) else str(x) for x in map(_plain, shape))


def _plain(size: Any) -> Any:
  return int(size) if isinstance(size, int | np.integer) else size


def untranslated(what: str) -> UserError:
  """The error for something that ONNX cannot express here."""
  return UserError(
    f'ONNX: {what} is not translated; leave onnx out of --formats'
  )


def whole(graph: Graph, equation: Any, values: list, index: int = 0) -> str:
  """The name of an argument in its full shape."""
  return graph.whole(values[index], equation.invars[index].aval.shape)


def result(name: str, equation: Any) -> Value:
  """The result of an equation, under its name in the graph."""
  return Value(name, dims(equation.outvars[0].aval.shape))
