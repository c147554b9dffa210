"""Samples as files: a grid, an .npz, or a folder of images, and their flags.

Samples come and go in chunks, so that memory stays flat in their number but for
the one picture of a grid.

Dimensions: N samples, H height, W width, C channels.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import io
import itertools
import os
import pathlib
import zipfile

from absl import flags
import numpy as np

from common_flax import commands
from common_flax import files
from common_flax import images as images_lib
from common_flax.config import UserError


def define_flags(
  values: flags.FlagValues, kinds: Sequence[str], kind_help: str
) -> None:
  """Defines the flags that every command has which draws samples.

  Args:
    values: gets the flags.
    kinds: what may be drawn, the default first.
    kind_help: what the kinds are.
  """
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'output',
    None,
    'FILE.png for a grid, FILE.npz for an array, else a folder that gets a PNG '
    'a sample.',
    flag_values=values,
  )
  flags.DEFINE_integer('num_samples', 64, 'How many.', 1, flag_values=values)
  flags.DEFINE_enum('kind', kinds[0], kinds, kind_help, flag_values=values)


def check(path: str, *, is_file: bool) -> None:
  """Refuses an output that cannot be written to, before anything is drawn.

  Args:
    path: of the output.
    is_file: whether that is a file, and no folder.

  Raises:
    UserError: saying what is in the way.
  """
  with _writable(path) as target:
    if is_file and target.is_dir():
      raise UserError(f'--output={path}: is a folder; give a file')
    if target.exists() and not target.is_dir() and not target.is_file():
      raise UserError(f'--output={path}: is no regular file; take another')
    nearest = target.parent if is_file else target
    while not nearest.exists() and nearest != nearest.parent:
      nearest = nearest.parent
    if not nearest.is_dir():
      raise UserError(f'--output={path}: {nearest} is no folder')
    if not os.access(nearest, os.W_OK | os.X_OK):
      raise UserError(f'--output={path}: {nearest} cannot be written to')


def write(
  path: str,
  chunks: Iterable[np.ndarray],
  shape: tuple[int, ...],
  columns: int | None = None,
  labels: np.ndarray | None = None,
) -> None:
  """Writes images the way the path's ending says.

  Args:
    path: `.png` for a grid, `.npz` for an array `images` uint8, anything else
      for a folder with a PNG a sample.
    chunks: uint8 [n, H, W, C] each, all images together.
    shape: of the array, [N, H, W, C] or with more axes before these.
    columns: images a row of a grid; None for a square.
    labels: int32 [N], if the images have some: the array `labels` of an .npz,
      the sub-folders of a folder.

  Raises:
    UserError: if the path cannot be written to.
  """
  with _writable(path) as target:
    ending = target.suffix.lower()
    if ending == '.npz':
      target.parent.mkdir(parents=True, exist_ok=True)
      _write_npz(target, chunks, shape, labels)
    elif ending == '.png':
      target.parent.mkdir(parents=True, exist_ok=True)
      images_lib.write_png(
        target, images_lib.grid(np.concatenate(list(chunks)), columns)
      )
    else:
      target.mkdir(parents=True, exist_ok=True)
      _write_folder(target, chunks, labels)


def write_picture(path: str, picture: np.ndarray) -> None:
  """Writes one picture, uint8 [H, W, C], as a PNG.

  Raises:
    UserError: if the path cannot be written to.
  """
  with _writable(path) as target:
    target.parent.mkdir(parents=True, exist_ok=True)
    images_lib.write_png(target, picture)


def write_bytes(path: str, data: bytes) -> None:
  """Writes a file.

  Raises:
    UserError: if the path cannot be written to.
  """
  with _writable(path) as target:
    target.parent.mkdir(parents=True, exist_ok=True)
    images_lib.write_bytes(target, data)


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by name as an .npz, the same arrays as the same file.

  Raises:
    UserError: if the path cannot be written to.
  """
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for name, array in arrays.items():
      _write_array(archive, name, array)
  write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def _writable(path: str) -> Iterator[pathlib.Path]:
  """The local path; what goes wrong in writing to it is the user's error."""
  if files.is_remote(path):
    raise UserError(f'--output={path}: give a path on this machine')
  try:
    yield pathlib.Path(os.path.expanduser(path))
  except OSError as error:
    raise UserError(
      f'--output={path}: cannot be written to: {error.strerror or error}'
    ) from error


def _dateless(name: str) -> zipfile.ZipInfo:
  """A member of an .npz that says nothing of when it was written."""
  return zipfile.ZipInfo(f'{name}.npy')


def _write_array(
  archive: zipfile.ZipFile, name: str, array: np.ndarray
) -> None:
  with archive.open(_dateless(name), 'w', force_zip64=True) as file:
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _write_npz(
  target: pathlib.Path,
  chunks: Iterable[np.ndarray],
  shape: tuple[int, ...],
  labels: np.ndarray | None,
) -> None:
  """What np.savez(target, images=...) writes, without holding it all."""
  partial = target.with_name(f'.{target.name}.partial')
  header = {
    'descr': np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
    'fortran_order': False,
    'shape': shape,
  }
  try:
    with zipfile.ZipFile(partial, 'w') as archive:
      with archive.open(_dateless('images'), 'w', force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
          file.write(np.ascontiguousarray(chunk).data)
      if labels is not None:
        _write_array(archive, 'labels', labels)
    partial.replace(target)
  finally:
    partial.unlink(missing_ok=True)


def _write_folder(
  folder: pathlib.Path,
  chunks: Iterable[np.ndarray],
  labels: np.ndarray | None,
) -> None:
  images = itertools.chain.from_iterable(chunks)
  for number, image in enumerate(images):
    place = folder if labels is None else folder / str(labels[number])
    place.mkdir(exist_ok=True)
    images_lib.write_png(place / f'{number:06d}.png', image)
