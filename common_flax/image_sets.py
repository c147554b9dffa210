"""Images of anyone's making: a folder of files, or an .npz, as they are.

Unlike the sources that models are trained on, nothing is cropped or resized:
what is to be judged is judged as it was made.

Dimensions: N images, H height, W width, C channels.
"""

import math
import os
import pathlib
import zipfile

import numpy as np

from common_flax import memory
from common_flax.config import UserError
from common_flax.data import folder
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode_whole
from common_flax.data.source import ArraySource
from common_flax.data.source import Progress
from common_flax.data.source import unseen

_MAX_CLASSES = 2**16


def read(path: str, progress: Progress = unseen) -> ArraySource:
  """The images of a folder or of an .npz.

  Args:
    path: a folder, whose sub-folders are classes if all images lie in some; or
      an .npz of `images` uint8 [N, H, W, C] with C 1 or 3, or [N, H, W], and
      of `labels` int [N] if they have any.
    progress: shows how far it is, see `load_encoded`.

  Raises:
    UserError: naming the path, and what is wrong there.
  """
  location = pathlib.Path(os.path.expanduser(path))
  if os.path.isdir(location):
    return _read_folder(location, progress)
  if os.path.isfile(location) and location.suffix.lower() == '.npz':
    return _read_npz(location)
  if os.path.exists(location):
    raise UserError(f'{path}: is neither a folder of images nor an .npz')
  raise UserError(f'{path}: there is no such folder or file')


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
  """An array of an .npz, whose size is looked at before room is made for it.

  Raises:
    ValueError: if it is not what it says, or takes more memory than there is.
  """
  stored = archive.getinfo(f'{name}.npy').file_size
  if stored > memory.total_bytes():
    raise ValueError(f'`{name}` takes {stored / 2**30:,.1f} GiB of memory')
  with archive.open(f'{name}.npy') as file:
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = read_header(file)
  if math.prod(shape) * dtype.itemsize > stored:
    raise ValueError(f'`{name}` is said to be {list(shape)}, and is less')
  with archive.open(f'{name}.npy') as file:
    return np.lib.format.read_array(file, allow_pickle=False)


def _read_npz(path: pathlib.Path) -> ArraySource:
  try:
    with zipfile.ZipFile(path) as archive:
      names = [n.removesuffix('.npy') for n in archive.namelist()]
      if 'images' not in names:
        raise UserError(
          f'{path}: holds no array `images`, only {", ".join(names) or "none"}'
        )
      images = _array(archive, 'images')
      labels = _array(archive, 'labels') if 'labels' in names else None
  except UserError:
    raise
  except Exception as error:  # zip files and their arrays fail in many types
    reason = str(error) or type(error).__name__
    raise UserError(f'{path}: cannot be read: {reason}') from error
  if np.issubdtype(images.dtype, np.floating) and np.isnan(images).any():
    raise UserError(f'{path}: its images hold NaN; whatever drew them failed')
  if images.dtype != np.uint8:
    raise UserError(
      f'{path}: its images are {images.dtype}; give bytes, uint8 from 0 to 255'
    )
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
    raise UserError(
      f'{path}: its images are {list(images.shape)}; give [N, H, W, C] with C '
      '1 or 3'
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
      f'{path}: its labels are {labels.dtype} {list(labels.shape)}; give a '
      f'class from 0 on for each of the {len(images):,} images'
    )
  if labels.max() >= _MAX_CLASSES:
    raise UserError(
      f'{path}: its labels go up to {labels.max()}; number the classes from 0 '
      f'to less than {_MAX_CLASSES:,}'
    )
  return ArraySource(images, labels.astype(np.int32), int(labels.max()) + 1)


def _read_folder(path: pathlib.Path, progress: Progress) -> ArraySource:
  files = folder.image_files(path)
  if not files:
    raise UserError(
      f'{path}: holds no images; looked for {", ".join(folder.SUFFIXES)} in it '
      'and below'
    )
  channels = folder.max_channels(files)
  images = []
  for file in progress(files, len(files), f'Reading {path}'):
    images.append(_decode(file, channels))
    sizes = [image.shape[:2] for image in (images[-1], images[0])]
    if sizes[0] != sizes[1]:
      here, there = (f'{width} x {height}' for height, width in sizes)
      raise UserError(
        f'{file}: is of {here} pixels, and {files[0].name} of {there}; make '
        'all images the same size'
      )
  stacked = np.stack(images)
  names = [file.relative_to(path).parts[0] for file in files]
  if any(name == file.name for name, file in zip(names, files, strict=True)):
    return _labelled(path, stacked, None)
  classes = sorted({*names})
  return _labelled(path, stacked, np.array([classes.index(x) for x in names]))


def _decode(file: pathlib.Path, channels: int) -> np.ndarray:
  try:
    return decode_whole(folder.read_file(file), channels)
  except CorruptImageError as error:
    raise UserError(
      f'{file}: cannot be decoded ({error}); repair or remove it'
    ) from error
