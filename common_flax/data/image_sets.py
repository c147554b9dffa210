"""Reads sets of images to evaluate: a folder of files, or an .npz.

Unlike training data, the images are never cropped or resized.

Dimensions: N images, H height, W width, C channels.
"""

import math
import os
import pathlib
import zipfile

import numpy as np

from common_flax.cpu import memory
from common_flax.data import arrangement
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode_with_facts
from common_flax.data.own.listing import list_images
from common_flax.data.own.listing import max_channels
from common_flax.data.own.listing import read_file
from common_flax.data.own.listing import SUFFIXES
from common_flax.data.rendering import Facts
from common_flax.data.source import ArraySource
from common_flax.data.source import LeftOut
from common_flax.data.source import Report
from common_flax.errors import UserError
from common_flax.progress import track

_MAX_CLASSES = 2**16


def read(path: str) -> ArraySource:
  """Reads the images of a folder or an .npz.

  Args:
    path: a folder, whose sub-folders are classes, and of which a line is
      printed for what is left out; or an .npz with `images`, uint8 [N, H, W, C]
      with C 1 or 3, or [N, H, W], and optionally `labels`, int [N].

  Raises:
    UserError: naming the path and the problem.
  """
  location = pathlib.Path(os.path.expanduser(path))
  if os.path.isdir(location):
    return _read_folder(location)
  if os.path.isfile(location) and location.suffix.lower() == '.npz':
    return _read_npz(location)
  if os.path.exists(location):
    raise UserError(f'{path}: neither a folder of images nor an .npz')
  raise UserError(f'{path}: no such folder or file')


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
  """Reads an array of an .npz, after checking the size its header claims.

  Raises:
    ValueError: if the data is shorter than its header claims, or larger than
      the machine's memory.
  """
  stored = archive.getinfo(f'{name}.npy').file_size
  if stored > memory.total_bytes():
    raise ValueError(f'`{name}` needs {stored / 2**30:,.1f} GiB of memory')
  with archive.open(f'{name}.npy') as file:
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
  if math.prod(shape) * dtype.itemsize > stored:
    raise ValueError(f'`{name}` is shorter than its shape, {list(shape)}')
  with archive.open(f'{name}.npy') as file:
    return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: pathlib.Path) -> ArraySource:
  try:
    with zipfile.ZipFile(path) as archive:
      names = [n.removesuffix('.npy') for n in archive.namelist()]
      if 'images' not in names:
        raise UserError(
          f'{path}: has no array `images`, only {", ".join(names) or "none"}'
        )
      images = _array(archive, 'images')
      labels = _array(archive, 'labels') if 'labels' in names else None
  except UserError:
    raise
  except Exception as error:  # zip files and their arrays raise many types
    reason = str(error) or type(error).__name__
    raise UserError(f'{path}: cannot be read: {reason}') from error
  if np.issubdtype(images.dtype, np.floating) and np.isnan(images).any():
    raise UserError(f'{path}: the images contain NaN; draw them again')
  if images.dtype != np.uint8:
    raise UserError(
      f'{path}: the images are {images.dtype}; store uint8 from 0 to 255'
    )
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
    raise UserError(
      f'{path}: the images have shape {list(images.shape)}; store [N, H, W, C] '
      'with C 1 or 3'
    )
  return _labelled(path, images, labels)


def _labelled(
  path: pathlib.Path, images: np.ndarray, labels: np.ndarray | None
) -> ArraySource:
  if labels is None:
    return ArraySource(images, np.full(len(images), -1, np.int32), None)
  is_whole = np.issubdtype(labels.dtype, np.integer)
  if not is_whole or labels.shape != (len(images),) or labels.min() < 0:
    raise UserError(
      f'{path}: the labels are {labels.dtype} {list(labels.shape)}; store one '
      f'integer class, 0 or more, for each of the {len(images):,} images'
    )
  if labels.max() >= _MAX_CLASSES:
    raise UserError(
      f'{path}: the labels go up to {labels.max()}; number the classes from 0 '
      f'to {_MAX_CLASSES - 1:,}'
    )
  return ArraySource(images, labels.astype(np.int32), int(labels.max()) + 1)


def _read_folder(path: pathlib.Path) -> ArraySource:
  listing = list_images(path)
  relative = {file.relative_to(path): file for file in listing.files}
  classes, strays, note = arrangement.classes_of({x: x for x in relative})
  files = [file for x, file in relative.items() if x not in strays]
  left_out = [LeftOut(str(path / x), why) for x, why in strays.items()]
  report = Report((*listing.left_out, *left_out), (note,) if note else ())
  if not files:
    raise UserError(
      f'{path}: contains no images; looked for {", ".join(SUFFIXES)} in '
      'it and its sub-folders'
    )
  channels = max_channels(files)
  images, num_transparent = [], 0
  for file in track(files, len(files), f'Reading {path}'):
    image, facts = _decode(file, channels)
    images.append(image)
    num_transparent += facts.is_transparent
    sizes = [image.shape[:2] for image in (images[-1], images[0])]
    if sizes[0] != sizes[1]:
      here, there = (f'{width} x {height}' for height, width in sizes)
      raise UserError(
        f'{file}: has {here} pixels, and {files[0].name} has {there}; make all '
        'images the same size'
      )
  for line in report.lines():
    print(f'{path}: {line}')
  if num_transparent:
    laid = f'{num_transparent:,} of {len(files):,} images with transparency'
    print(f'{path}: {laid}, laid on white.')
  stacked = np.stack(images)
  if classes is None:
    return _labelled(path, stacked, None)
  names = [classes[file.relative_to(path)] for file in files]
  numbers = {name: i for i, name in enumerate(sorted({*names}))}
  return _labelled(path, stacked, np.array([numbers[x] for x in names]))


def _decode(file: pathlib.Path, channels: int) -> tuple[np.ndarray, Facts]:
  try:
    return decode_with_facts(read_file(file), None, channels)
  except CorruptImageError as error:
    raise UserError(
      f'{file}: cannot be decoded ({error}); repair or remove it'
    ) from error
