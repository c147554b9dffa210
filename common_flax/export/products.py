"""Products of arrays in ONNX: of matrices, and convolutions.

Dimensions: B batch, H height, W width, I input and O output features, k kernel.
"""

import string
from typing import Any

import numpy as np

from common_flax.export.values import Graph
from common_flax.export.values import result
from common_flax.export.values import untranslated
from common_flax.export.values import Value
from common_flax.export.values import whole


def dot(graph: Graph, equation: Any, values: list) -> Value:
  """A matrix product where it is one, else the operator Einsum."""
  contracted, batch = equation.params['dimension_numbers']
  names = [whole(graph, equation, values, i) for i in range(2)]
  ranks = [len(atom.aval.shape) for atom in equation.invars]
  is_product = (*contracted, ranks[1]) == ((ranks[0] - 1,), (0,), 2)
  if is_product and not batch[0]:
    return result(graph.add('MatMul', *names), equation)
  letters = iter(string.ascii_lowercase)
  left = [next(letters) for _ in range(ranks[0])]
  right = [next(letters) for _ in range(ranks[1])]
  for ours, theirs in (contracted, batch):
    for i, j in zip(ours, theirs, strict=True):
      right[j] = left[i]
  gone = {left[i] for i in contracted[0]}
  shared = [left[i] for i in batch[0]]
  kept = [x for x in left + right if x not in gone and x not in shared]
  terms = f'{"".join(left)},{"".join(right)}->{"".join(shared + kept)}'
  return result(graph.add('Einsum', *names, equation=terms), equation)


def conv(graph: Graph, equation: Any, values: list) -> Value:
  """A convolution of images [B, H, W, I] with a known kernel [k, k, I, O]."""
  params, kernel = equation.params, values[1]
  layout = params['dimension_numbers']
  is_usual = (layout.lhs_spec, layout.rhs_spec, layout.out_spec) == (
    (0, 3, 1, 2),
    (3, 2, 0, 1),
    (0, 3, 1, 2),
  )
  if not (is_usual and isinstance(kernel, np.ndarray)):
    raise untranslated(
      'a convolution of another layout, or with a computed kernel'
    )
  x = graph.add('Transpose', whole(graph, equation, values), perm=[0, 3, 1, 2])
  apply = _spread if max(params['lhs_dilation']) > 1 else _plain_conv
  y = apply(graph, params, kernel, x)
  return result(graph.add('Transpose', y, perm=[0, 2, 3, 1]), equation)


def _plain_conv(graph: Graph, params: dict, kernel: np.ndarray, x: str) -> str:
  pads = list(zip(*params['padding'], strict=True))
  weights = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
  return graph.add(
    'Conv',
    x,
    graph.constant(weights),
    strides=list(params['window_strides']),
    pads=[*pads[0], *pads[1]],
    dilations=list(params['rhs_dilation']),
    group=params['feature_group_count'],
  )


def _spread(graph: Graph, params: dict, kernel: np.ndarray, x: str) -> str:
  """A convolution of an image with zeros between its pixels.

  It is the operator ConvTranspose with the kernel turned by 180 degrees. An
  operator's padding is what it cuts off, so each p is kernel size - 1 - p.
  """
  is_simple = (
    set(params['window_strides']) == set(params['rhs_dilation']) == {1}
  )
  pads = [
    [size - 1 - each for each in pair]
    for size, pair in zip(kernel.shape, params['padding'], strict=False)
  ]
  cut = [*(low for low, _ in pads), *(high for _, high in pads)]
  if not is_simple or params['feature_group_count'] > 1 or min(cut) < 0:
    raise untranslated('such a transposed convolution')
  weights = np.ascontiguousarray(kernel[::-1, ::-1].transpose(2, 3, 0, 1))
  return graph.add(
    'ConvTranspose',
    x,
    graph.constant(weights),
    strides=list(params['lhs_dilation']),
    pads=cut,
  )
