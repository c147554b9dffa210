"""Measures the size and speed of exported networks.

  python -m benchmarks.exports --workdirs=runs/dcgan,runs/quick,runs/vae

Each run is exported, and its first network called on 1 and on 64 latents: by
`sample`'s own code, as a program of `jax.export`, and in ONNX Runtime. A time
is the fastest of many calls.
"""

from collections.abc import Callable
from collections.abc import Sequence
import pathlib
import sys
import tempfile
import time

from absl import flags
import jax
import numpy as np
import onnxruntime

from common_flax.cli import commands
from common_flax.export import __main__ as export
from common_flax.export import load_exported
from common_flax.export.parts import Part

_BATCH_SIZES = (1, 64)
_SECONDS = 1.0  # of calls for one time


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_list('workdirs', [], 'Workdirs of runs.', flag_values=values)


def _milliseconds(call: Callable[[], object]) -> float:
  """The time of the fastest call; the first ones compile."""
  times = []
  jax.block_until_ready(call())
  until = time.perf_counter() + _SECONDS
  while len(times) < 5 or time.perf_counter() < until:
    start = time.perf_counter()
    jax.block_until_ready(call())
    times.append(time.perf_counter() - start)
  return 1000 * min(times)


def _inputs(part: Part, num: int) -> list[np.ndarray]:
  """Latents, and labels if the network takes them."""
  random = np.random.default_rng(0)
  return [
    random.normal(size=(num, *each.shape)).astype(each.dtype)
    if each.dtype == 'float32'
    else np.zeros(num, each.dtype)
    for each in part.inputs.values()
  ]


def _print_rows(workdir: pathlib.Path) -> None:
  """Prints a row for each way to call the first network of a run."""
  family = export.family_of(workdir)
  name = family.PARTS[0]
  part = family.load(workdir, [name]).parts[name]
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch) / 'exported'
    arguments = [f'--workdir={workdir}', f'--output={folder}']
    if export.main(['export', *arguments]):
      raise SystemExit(1)
    program = jax.jit(load_exported(folder)[name])
    session = onnxruntime.InferenceSession(folder / f'{name}.onnx')
    sizes = {file.suffix: file.stat().st_size for file in folder.iterdir()}
  own = jax.jit(part.function)

  def by_onnx(*inputs: np.ndarray) -> object:
    return session.run(None, dict(zip(part.inputs, inputs, strict=True)))

  for label, suffix, call in (
    ('weights', '.safetensors', None),
    ('own code', None, lambda *inputs: own(part.weights, *inputs)),
    ('jax.export', '.stablehlo', program),
    ('ONNX Runtime', '.onnx', by_onnx),
  ):
    cells = [f'{sizes[suffix] / 1e6:.2f}' if suffix else '']
    for num in _BATCH_SIZES if call else ():
      inputs = _inputs(part, num)
      cells.append(f'{_milliseconds(lambda: call(*inputs)):.2f}')  # noqa: B023
    print(f'| {workdir.name} | {label} | {" | ".join(cells)} |', flush=True)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdirs')
  columns = ['1 image, ms', '64 images, ms']
  print(f'| run | form | MB | {" | ".join(columns)} |\n|---|---|---|---|---|')
  for workdir in values.workdirs:
    _print_rows(pathlib.Path(workdir))


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
