"""Reads sets of images to evaluate: a folder of files, or an array.

Unlike training data, the images are never cropped or resized.

Dimensions: N images, H height, W width, C channels.
"""

import os
import pathlib

import numpy as np

from common_flax.cpu import memory
from common_flax.data import arrangement
from common_flax.data import arrays
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode_with_facts
from common_flax.data.own.array_files import SUFFIXES as SUFFIXES_OF_ARRAYS
from common_flax.data.own.array_keys import find_keys
from common_flax.data.own.listing import list_images
from common_flax.data.own.listing import max_channels
from common_flax.data.own.listing import read_file
from common_flax.data.own.listing import SUFFIXES
from common_flax.data.own.stored_arrays import members_of
from common_flax.data.rendering import Facts
from common_flax.data.source import ArraySource
from common_flax.data.source import LeftOut
from common_flax.data.source import Report
from common_flax.errors import UserError
from common_flax.progress import track


def read(path: str) -> ArraySource:
  """Reads the images of a folder or an array.

  Args:
    path: a folder, whose sub-folders are classes, and of which a line is
      printed for what is left out; or an .npz or .npy of images, and optionally
      of labels, by the rules of `common_flax.data.arrays`.

  Raises:
    UserError: naming the path and the problem.
  """
  location = pathlib.Path(os.path.expanduser(path))
  if os.path.isdir(location):
    return _read_folder(location)
  if os.path.isfile(location) and location.suffix.lower() in SUFFIXES_OF_ARRAYS:
    return _read_arrays(location)
  if os.path.exists(location):
    raise UserError(
      f'{path}: neither a folder of images nor an .npz or .npy of them'
    )
  raise UserError(f'{path}: no such folder or file')


def _read_arrays(path: pathlib.Path) -> ArraySource:
  """Reads the images of an .npz or .npy into memory.

  Raises:
    UserError: naming the file, what is wrong, and the cure.
  """
  members = members_of(path, str(path))
  keys = find_keys(members, str(path), None)
  if None not in keys.images:
    raise UserError(
      f'{path}: holds the splits {" and ".join(keys.images.values())}; store '
      'the images to compare alone, as `images`'
    )
  images = members[keys.images[None]]
  rows, note = arrays.read(images.load(), images.name)
  if rows.nbytes > memory.total_bytes():
    raise UserError(
      f'{images.name}: needs {rows.nbytes / 2**30:,.1f} GiB of memory; store '
      'fewer images'
    )
  if note:
    print(note)
  labels, num_classes = np.full(len(rows), -1), None
  if None in keys.labels:
    member = members[keys.labels[None]]
    labels, _ = arrays.read_labels(member.load(), len(rows), member.name)
    num_classes = int(labels.max()) + 1
  return ArraySource(np.array(rows), labels.astype(np.int32), num_classes)


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
  labels, num_classes = np.full(len(files), -1, np.int32), None
  if classes is not None:
    names = [classes[file.relative_to(path)] for file in files]
    numbers = {name: i for i, name in enumerate(sorted({*names}))}
    labels = np.array([numbers[x] for x in names], np.int32)
    num_classes = len(numbers)
  return ArraySource(stacked, labels, num_classes)


def _decode(file: pathlib.Path, channels: int) -> tuple[np.ndarray, Facts]:
  try:
    return decode_with_facts(read_file(file), None, channels)
  except CorruptImageError as error:
    raise UserError(
      f'{file}: cannot be decoded ({error}); repair or remove it'
    ) from error
