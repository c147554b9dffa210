"""The files of a network: its program, its graph, its weights."""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import pathlib
from typing import Any

import jax
import jax.export  # not an attribute of jax until it is imported
import numpy as np

from common_flax.cpu import dispatch
from common_flax.cpu import startup
from common_flax.errors import UserError
from common_flax.export import parts as parts_lib
from common_flax.export.parts import Part

# The packages that write each format. JAX reads and writes programs with
# flatbuffers, but does not ask for it.
FORMATS = {
  'stablehlo': 'flatbuffers',
  'safetensors': 'safetensors',
  'onnx': 'onnx',
}
PLATFORMS = ('cpu', 'cuda', 'tpu')


def check_available(formats: Sequence[str]) -> None:
  """Checks that the packages that write the formats are installed.

  Raises:
    UserError: naming those that are missing.
  """
  missing = [
    FORMATS[each] for each in formats if not startup.is_installed(FORMATS[each])
  ]
  if missing:
    raise UserError(
      f'--formats={",".join(formats)}: needs packages that are missing; run '
      f'pip install {" ".join(missing)}'
    )


@contextlib.contextmanager
def portable() -> Iterator[None]:
  """Traces textbook forms in full precision, which all platforms run alike."""
  before = os.environ.get(dispatch.VARIABLE)
  os.environ[dispatch.VARIABLE] = 'textbook'
  try:
    with jax.default_matmul_precision('float32'):
      yield
  finally:
    if before is None:
      del os.environ[dispatch.VARIABLE]
    else:
      os.environ[dispatch.VARIABLE] = before


def write(
  folder: pathlib.Path, name: str, part: Part, formats: Sequence[str]
) -> None:
  """Writes the files of a network.

  Args:
    folder: an existing one.
    name: of the network and its files.
    part: the network.
    formats: of FORMATS.

  Raises:
    UserError: if ONNX cannot express it.
  """
  (batch,) = jax.export.symbolic_shape('batch')
  weights = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float32), part.weights
  )
  specs = {
    key: jax.ShapeDtypeStruct((batch, *each.shape), each.dtype)
    for key, each in part.inputs.items()
  }

  def function(*inputs: jax.Array) -> Any:
    return part.function(weights, *inputs)

  with portable():
    if 'stablehlo' in formats:
      exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(
        *specs.values()
      )
      (folder / f'{name}.stablehlo').write_bytes(exported.serialize())
    if 'onnx' in formats:
      from common_flax.export import onnx_graph  # needs an extra

      model = onnx_graph.model_of(function, specs, list(part.outputs), name)
      (folder / f'{name}.onnx').write_bytes(model.SerializeToString())
  if 'safetensors' in formats:
    from safetensors import numpy as safetensors  # an extra

    data = safetensors.save(parts_lib.flat(weights), {'format': 'np'})
    (folder / f'{name}.safetensors').write_bytes(data)
