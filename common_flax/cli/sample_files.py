"""Writes samples as a picture, an animation, an array or a folder of images.

Samples are drawn and written in chunks, so that memory does not grow with their
number; only a grid and a GIF are held as a whole.

Dimensions: N samples, H height, W width, C channels.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import io
import itertools
import math
import pathlib
import re
import shutil
from typing import IO
import zipfile

from absl import flags
import numpy as np

from common_flax import files
from common_flax import images as images_lib
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import plotting
from common_flax.errors import UserError
from common_flax.workdir import classes

# What samples of images can be written as.
ENDINGS = (
  *outputs.PICTURES,
  *outputs.ANIMATIONS,
  *outputs.ARRAYS,
  outputs.FOLDER,
)
# The longest side that a format of pictures allows.
_MAX_SIDES = {'.jpg': 65_500, '.jpeg': 65_500, '.webp': 16_383}
_MARGIN = 2  # of a grid
_PARTIAL = '.partial'  # holds the images of a folder that is being written


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
    'FILE.png, FILE.jpg or FILE.webp for a grid, FILE.gif or FILE.mp4 for an '
    'animation (and FILE.webp for a walk), FILE.npz or FILE.npy for an array, '
    'or an empty or new folder for one PNG per sample. A file is replaced.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_samples', 64, 'Number of samples.', 1, flag_values=values
  )
  flags.DEFINE_enum('kind', kinds[0], kinds, kind_help, flag_values=values)


def check_size(
  path: str,
  num: int,
  image_shape: Sequence[int],
  columns: int | None,
  timing: animations.Timing | None = None,
) -> None:
  """Checks that the format of the path can hold a grid.

  Args:
    path: path of the output.
    num: number of images.
    image_shape: [H, W, C].
    columns: images per row of the grid; None for a square grid.
    timing: of the frames of a walk, for which a .webp holds no grid.

  Raises:
    UserError: naming the longest side that the format allows.
  """
  if _is_animation(path, timing):
    return
  most = _MAX_SIDES.get(outputs.ending(path))
  columns = columns or math.ceil(math.sqrt(num))
  height, width, _ = image_shape
  side = max(
    -(-num // columns) * (height + _MARGIN), columns * (width + _MARGIN)
  )
  if most and side + _MARGIN > most:
    raise UserError(
      f'--output={path}: the grid has {side + _MARGIN:,} pixels a side, and '
      f'this format at most {most:,}; use FILE.png, or draw fewer images'
    )


def write(
  path: str,
  chunks: Iterable[np.ndarray],
  shape: tuple[int, ...],
  columns: int | None = None,
  labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
  latents: Iterable[np.ndarray] | None = None,
  timing: animations.Timing | None = None,
) -> None:
  """Writes images in the format of the path's ending.

  Args:
    path: a path that `outputs.check` accepted with ENDINGS.
    chunks: consecutive images, uint8 [n, H, W, C] each.
    shape: shape of the array: [N, H, W, C], or with further leading axes.
    columns: images per row of a grid; None for a square grid.
    labels: int32 [N], optional: the array `labels` of an .npz, the sub-folders
      of a folder.
    class_names: of class 0 first, with labels only: the array `class_names` of
      an .npz, the names of the sub-folders and, unless they are numbers, of the
      rows of a grid that have one class each.
    latents: consecutive latents of the images, floats [n, Z] each: the array
      `latents` of an .npz, read once the images are written.
    timing: of the frames of a walk, for which a .webp is an animation.

  Raises:
    UserError: if the path cannot be written.
  """
  ending = outputs.ending(path)
  with outputs.writable(path) as target:
    target.parent.mkdir(parents=True, exist_ok=True)
    if ending in outputs.ARRAYS:
      others = _label_arrays(labels, class_names) if ending == '.npz' else {}
      _write_array_file(target, chunks, shape, others, latents)
    elif _is_animation(path, timing):
      images = itertools.chain.from_iterable(chunks)
      animations.write(target, images, timing or animations.SAMPLES)
    elif ending in outputs.PICTURES:
      grid = images_lib.grid(np.concatenate(list(chunks)), columns, _MARGIN)
      has_names = labels is not None and not classes.are_numbers(class_names)
      if columns and has_names:
        rows = _labels_of_rows(labels, math.prod(shape[:-3]), columns)
        names = [class_names[k] for k in rows]
        grid = plotting.name_rows(grid, names, _MARGIN) if names else grid
      files.write_bytes(target, images_lib.encode(grid, ending))
    else:
      _write_folder(target, chunks, labels, class_names)


def _is_animation(path: str, timing: animations.Timing | None) -> bool:
  ending = outputs.ending(path)
  is_walk = timing is not None
  return ending in outputs.ANIMATIONS or (is_walk and ending == '.webp')


def write_picture(path: str, picture: np.ndarray) -> None:
  """Writes a picture, uint8 [H, W, C], in the format of the path's ending.

  Raises:
    UserError: if the path cannot be written.
  """
  outputs.write_bytes(path, images_lib.encode(picture, outputs.ending(path)))


def write_arrays(
  path: str,
  name: str,
  array: np.ndarray,
  labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
  flag: str = '--output',
  latents: np.ndarray | None = None,
) -> None:
  """Writes samples held in memory as .npz or, alone, as .npy.

  Args:
    path: of the file.
    name: of the array in an .npz, `images` or `points`.
    array: the samples.
    labels: int32 [N], optional.
    class_names: see `write`.
    flag: the flag that names the path, for errors.
    latents: of the samples, floats [N, Z], optional: the array `latents` of an
      .npz.

  Raises:
    UserError: if the path cannot be written.
  """
  if outputs.ending(path) == '.npz':
    arrays = {name: array} | ({} if latents is None else {'latents': latents})
    arrays |= _label_arrays(labels, class_names)
    write_npz(path, arrays, flag)
    return
  buffer = io.BytesIO()
  np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
  outputs.write_bytes(path, buffer.getvalue(), flag)


def write_npz(
  path: str, arrays: Mapping[str, np.ndarray], flag: str = '--output'
) -> None:
  """Writes named arrays as .npz; equal arrays give identical bytes.

  Raises:
    UserError: if the path cannot be written.
  """
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as archive:
    for name, array in arrays.items():
      _write_array(archive, name, array)
  outputs.write_bytes(path, buffer.getvalue(), flag)


def _label_arrays(
  labels: np.ndarray | None, class_names: Sequence[str] | None
) -> dict[str, np.ndarray]:
  """The arrays of an .npz that say what the samples show."""
  arrays = {} if labels is None else {'labels': labels}
  if labels is not None and class_names is not None:
    arrays['class_names'] = np.array(class_names)
  return arrays


def _labels_of_rows(labels: np.ndarray, num: int, columns: int) -> np.ndarray:
  """The class of each row of a grid of `num`; none if a row has several."""
  every = np.resize(labels, num)
  rows = every[::columns]
  is_pure = np.array_equal(np.repeat(rows, columns)[:num], every)
  return rows if is_pure else rows[:0]


def _dateless(name: str) -> zipfile.ZipInfo:
  """A member of an .npz without its time of writing."""
  return zipfile.ZipInfo(f'{name}.npy')


def _write_array(
  archive: zipfile.ZipFile, name: str, array: np.ndarray
) -> None:
  with archive.open(_dateless(name), 'w', force_zip64=True) as file:
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _write_array_file(
  target: pathlib.Path,
  chunks: Iterable[np.ndarray],
  shape: tuple[int, ...],
  others: Mapping[str, np.ndarray],
  latents: Iterable[np.ndarray] | None,
) -> None:
  """Writes like np.savez or np.save, one chunk at a time."""
  partial = target.with_name(f'.{target.name}.partial')
  try:
    if target.suffix.lower() == '.npy':
      with partial.open('wb') as file:
        _write_chunks(file, chunks, shape[:-3])
    else:
      with zipfile.ZipFile(partial, 'w') as archive:
        with archive.open(_dateless('images'), 'w', force_zip64=True) as file:
          _write_chunks(file, chunks, shape[:-3])
        if latents is not None:
          name = _dateless('latents')
          with archive.open(name, 'w', force_zip64=True) as file:
            _write_chunks(file, latents, shape[:-3])
        for name, array in others.items():
          _write_array(archive, name, array)
    partial.replace(target)
  finally:
    partial.unlink(missing_ok=True)


def _write_chunks(
  file: IO[bytes], chunks: Iterable[np.ndarray], leading: tuple[int, ...]
) -> None:
  """Writes an array whose chunks lie along its first or `leading` axes."""
  chunks = iter(chunks)
  first = np.asarray(next(chunks))
  header = {
    'descr': np.lib.format.dtype_to_descr(first.dtype),
    'fortran_order': False,
    'shape': (*leading, *first.shape[1:]),
  }
  np.lib.format.write_array_header_1_0(file, header)
  for chunk in itertools.chain([first], chunks):
    file.write(np.ascontiguousarray(chunk).data)


def _write_folder(
  folder: pathlib.Path,
  chunks: Iterable[np.ndarray],
  labels: np.ndarray | None,
  class_names: Sequence[str] | None,
) -> None:
  """Writes a PNG per image; they appear once all of them are drawn."""
  is_new = not folder.exists()
  partial = folder / _PARTIAL
  shutil.rmtree(partial, ignore_errors=True)  # of a command that was killed
  partial.mkdir(parents=True)
  names = None if class_names is None else folder_names(class_names)
  try:
    images = itertools.chain.from_iterable(chunks)
    for number, image in enumerate(images):
      place = partial
      if labels is not None:
        label = labels[number]
        place = partial / (str(label) if names is None else names[label])
        place.mkdir(exist_ok=True)
      images_lib.write_png(place / f'{number:06d}.png', image)
    for path in sorted(partial.iterdir()):
      path.rename(folder / path.name)
    partial.rmdir()
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    if is_new:
      with contextlib.suppress(OSError):
        folder.rmdir()
    raise


def folder_names(class_names: Sequence[str]) -> list[str]:
  """Names of folders for classes, which `dataset.name=folder` can read.

  A name from public data may hold a slash or lead out of the folder, be hidden,
  be too long, or mean a split.
  """
  names, taken = [], set()
  for number, class_name in enumerate(class_names):
    name = re.sub(r'[/\\:\x00-\x1f]', '_', class_name)
    name = re.sub(r'^\.', '_', name)
    if len(name.encode(errors='replace')) > 200:
      name = f'{name[:50]}_{number}'
    if name in ('train', 'test'):
      name = f'{name}_'
    if name.casefold() in taken:  # some file systems ignore case
      name = f'{name}_{number}'
    taken.add(name.casefold())
    names.append(name)
  return names
