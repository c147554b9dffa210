"""Times one set of pictures in each form in which people have them.

  python -m benchmarks.own_data [--images=20000] [--image_size=64]

The pictures are cut from scikit-learn's two photographs, and kept as a folder
of PNGs, as a zip file of it, as .npy and .npz, and as Parquet (which needs the
extra `hf`). Each is timed when it is first opened, when it is opened again, and
when batches go to the device, in turns; all must give the same bytes.
"""

from collections.abc import Sequence
import io
import pathlib
import sys
import tempfile
import time
from unittest import mock
import zipfile

from absl import flags
import numpy as np
import PIL.Image
from sklearn.datasets import load_sample_images

from benchmarks import turns
from benchmarks.input import images_per_second
from common_flax import data
from common_flax.cli import commands
from common_flax.data.source import ArraySource


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(
    values, images=20_000, image_size=64, batch_size=128, rounds=5
  )


def _pictures(num: int, size: int) -> np.ndarray:
  """Random squares of two photographs, uint8 [num, size, size, 3]."""
  rng = np.random.default_rng(0)
  photographs = load_sample_images().images
  pictures = np.empty((num, size, size, 3), np.uint8)
  for i in range(num):
    photograph = photographs[i % len(photographs)]
    top, left = (rng.integers(side - size) for side in photograph.shape[:2])
    pictures[i] = photograph[top : top + size, left : left + size]
  return pictures


def _png(picture: np.ndarray) -> bytes:
  file = io.BytesIO()
  PIL.Image.fromarray(picture).save(file, 'png')
  return file.getvalue()


def _write(folder: pathlib.Path, pictures: np.ndarray) -> dict[str, str]:
  """Writes the pictures in each form; returns paths by the form's name."""
  paths = {
    'a folder of PNGs': folder / 'folder',
    'a zip file of it': folder / 'pictures.zip',
    '.npy': folder / 'pictures.npy',
    '.npz': folder / 'pictures.npz',
    'Parquet': folder / 'pictures.parquet',
  }
  encoded = {
    f'{i:06d}.png': _png(picture) for i, picture in enumerate(pictures)
  }
  paths['a folder of PNGs'].mkdir()
  with zipfile.ZipFile(paths['a zip file of it'], 'w') as archive:
    for name, content in encoded.items():
      (paths['a folder of PNGs'] / name).write_bytes(content)
      archive.writestr(name, content)
  np.save(paths['.npy'], pictures)
  np.savez(paths['.npz'], images=pictures)
  try:
    import datasets
  except ModuleNotFoundError:
    print("Parquet is left out: pip install -e '.[hf]'")
    del paths['Parquet']
    return {form: str(path) for form, path in paths.items()}
  column = [{'bytes': content, 'path': None} for content in encoded.values()]
  rows = datasets.Dataset.from_dict({'image': column})
  rows = rows.cast_column('image', datasets.Image())
  datasets.disable_progress_bars()
  rows.to_parquet(paths['Parquet'])
  return {form: str(path) for form, path in paths.items()}


def _open(
  path: str, size: int, split: str = 'train'
) -> tuple[ArraySource, float]:
  """The source at a path, and the seconds that opening it took."""
  start = time.perf_counter()
  source = data.load_source('folder', split, size, path=path)
  return source, time.perf_counter() - start


def _content(path: str, size: int) -> bytes:
  """The sums of all pictures, in whatever order and splits they are kept."""
  splits = [_open(path, size, split)[0] for split in ('train', 'test')]
  sums = [split.examples.sum((1, 2, 3)) for split in splits]
  return np.sort(np.concatenate(sums)).tobytes()


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  size, batch_size = values.image_size, values.batch_size
  pictures = _pictures(values.images, size)
  with tempfile.TemporaryDirectory() as name:
    paths = _write(pathlib.Path(name), pictures)
    starts = {form: [] for form in paths}
    rates = {form: [] for form in paths}
    for i in range(values.rounds + 1):
      for form, path in paths.items():
        # Forms of the same content would share one cache.
        cache = f'{name}/cache of {form}'
        with mock.patch.dict('os.environ', XDG_CACHE_HOME=cache):
          source, seconds = _open(path, size)
        starts[form].append(seconds)
        if i:
          num_batches = len(source) // batch_size
          rates[form].append(images_per_second(source, batch_size, num_batches))
    if len({_content(path, size) for path in paths.values()}) > 1:
      raise AssertionError('the forms do not hold the same pictures')
  rows = [
    [
      form,
      f'{starts[form][0]:.1f} s',
      f'{np.median(starts[form][1:]):.2f} s',
      f'{np.median(rates[form]):,.0f}',
      f'{np.median(np.divide(rates[form], rates["a folder of PNGs"])):.2f}',
    ]
    for form in paths
  ]
  print(f'{values.images:,} of {size}x{size}x3, {turns.machine()}\n')
  header = ('pictures', 'first start', 'later', 'images/s', 'against folder')
  print(turns.markdown(header, rows))


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
