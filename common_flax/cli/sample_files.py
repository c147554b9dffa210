"""Writes samples as a grid, an .npz or a folder of images.

Samples are drawn and written in chunks, so that memory does not grow with their
number; only a grid is held as a whole.

Dimensions: N samples, H height, W width, C channels.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import io
import itertools
import pathlib
import zipfile

from absl import flags
import numpy as np

from common_flax import images as images_lib
from common_flax.cli import commands
from common_flax.cli import outputs


def define_flags(
  values: flags.FlagValues, kinds: Sequence[str], kind_help: str
) -> None:
  """Defines the flags of commands that draw samples.

  Args:
    values: receives the flags.
    kinds: choices of --kind, the default first.
    kind_help: help text of --kind.
  """
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'output',
    None,
    'FILE.png for a grid, FILE.npz for an array, or a folder for one PNG per '
    'sample.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_samples', 64, 'Number of samples.', 1, flag_values=values
  )
  flags.DEFINE_enum('kind', kinds[0], kinds, kind_help, flag_values=values)


def write(
  path: str,
  chunks: Iterable[np.ndarray],
  shape: tuple[int, ...],
  columns: int | None = None,
  labels: np.ndarray | None = None,
) -> None:
  """Writes images in the format of the path's suffix.

  Args:
    path: `.png` for a grid, `.npz` for an array `images`, anything else for a
      folder with one PNG per sample.
    chunks: consecutive images, uint8 [n, H, W, C] each.
    shape: shape of the array: [N, H, W, C], or with further leading axes.
    columns: images per row of a grid; None for a square grid.
    labels: int32 [N], optional: the array `labels` of an .npz, the names of
      sub-folders of a folder.

  Raises:
    UserError: if the path cannot be written.
  """
  with outputs.writable(path) as target:
    suffix = target.suffix.lower()
    if suffix == '.npz':
      target.parent.mkdir(parents=True, exist_ok=True)
      _write_npz(target, chunks, shape, labels)
    elif suffix == '.png':
      target.parent.mkdir(parents=True, exist_ok=True)
      images_lib.write_png(
        target, images_lib.grid(np.concatenate(list(chunks)), columns)
      )
    else:
      target.mkdir(parents=True, exist_ok=True)
      _write_folder(target, chunks, labels)


def write_picture(path: str, picture: np.ndarray) -> None:
  """Writes a picture, uint8 [H, W, C], as PNG.

  Raises:
    UserError: if the path cannot be written.
  """
  with outputs.writable(path) as target:
    target.parent.mkdir(parents=True, exist_ok=True)
    images_lib.write_png(target, picture)


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes named arrays as .npz; equal arrays give identical bytes.

  Raises:
    UserError: if the path cannot be written.
  """
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for name, array in arrays.items():
      _write_array(archive, name, array)
  outputs.write_bytes(path, buffer.getvalue())


def _dateless(name: str) -> zipfile.ZipInfo:
  """A member of an .npz without its time of writing."""
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
  """Writes like np.savez(target, images=...), one chunk at a time."""
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
