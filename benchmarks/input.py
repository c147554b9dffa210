"""Times the input pipeline from memory, from a mapped file, from a folder.

  python -m benchmarks.input [--image_size=32] [--batch_size=128]

From memory and from a memory-mapped file, it times training's pipeline,
including the transfer to the device. For a folder of JPEG files it times the
first start, which decodes and resizes, and later starts, which check that the
files are unchanged. The images are random; only the decoder's speed depends on
their content.
"""

from collections.abc import Callable
from collections.abc import Sequence
import pathlib
import sys
import tempfile
import time
from unittest import mock

from absl import flags
import jax
import numpy as np
import PIL.Image

from benchmarks import turns
from common_flax import data
from common_flax.cli import commands
from common_flax.data.batches import example_batches
from common_flax.data.batches import join_each
from common_flax.data.batches import prefetched
from common_flax.data.source import ArraySource
from common_flax.distributed import sharding

_NUM_FILES = 2000
_FILE_SIZE = (178, 218)  # size of CelebA's photographs


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(
    values,
    image_size=32,
    channels=3,
    batch_size=128,
    images=50_000,
    rounds=5,
  )


def images_per_second(
  source: ArraySource, batch_size: int, num_batches: int
) -> float:
  """Measures the rate at which batches arrive on the devices."""
  parallel = sharding.create('jit')
  batches = example_batches(
    source,
    seed=0,
    batch_size=batch_size,
    batches_per_step=1,
    start_step=0,
    num_steps=num_batches + 1,
  )
  with prefetched(join_each(batches, 1), parallel.put_batches) as ready:
    jax.block_until_ready(next(ready))  # draws the first permutation
    start = time.perf_counter()
    for batch in ready:
      jax.block_until_ready(batch)
  return num_batches * batch_size / (time.perf_counter() - start)


def _write_files(folder: pathlib.Path) -> None:
  random = np.random.default_rng(0)
  width, height = _FILE_SIZE
  for i in range(_NUM_FILES):
    # Smooth like photographs; noise would be slower to decode.
    small = random.integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    image = PIL.Image.fromarray(small).resize(_FILE_SIZE)
    image.save(folder / f'{i:05d}.jpg', quality=90)


def _rate(function: Callable[[], int]) -> float:
  start = time.perf_counter()
  return function() / (time.perf_counter() - start)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  size = values.image_size
  shape = (values.images, size, size, values.channels)
  images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  labels = np.zeros(values.images, np.int32)
  rates = {}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    np.save(folder / 'images.npy', images)
    mapped = np.load(folder / 'images.npy', mmap_mode='r', allow_pickle=False)
    num_batches = values.images // values.batch_size
    for kind, array in {'memory': images, 'a mapped file': mapped}.items():
      source = ArraySource(array, labels, None)
      rates[f'from {kind}'] = [
        images_per_second(source, values.batch_size, num_batches)
        for _ in range(values.rounds)
      ]
    (folder / 'files').mkdir()
    _write_files(folder / 'files')

    def load() -> int:
      path = str(folder / 'files')
      return len(data.load_source('folder', 'train', size, path=path))

    with mock.patch.dict('os.environ', XDG_CACHE_HOME=name):
      rates['a folder, first start'] = [_rate(load)]
      rates['a folder, later'] = [_rate(load) for _ in range(values.rounds)]
  rows = [
    [kind, f'{np.median(r):,.0f}', f'{min(r):,.0f} to {max(r):,.0f}']
    for kind, r in rates.items()
  ]
  print(f'{size}x{size}x{values.channels}, {turns.machine()}\n')
  print(turns.markdown(('images', 'images/s', 'range'), rows))


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
