"""Arrays of images as people have them, read as uint8 [N, H, W, C].

The same rules hold for arrays that are given from Python and for those in
files. An array is read where its shape and values can mean one thing only, and
a sentence says what they were taken for. It is never unpickled.

Dimensions: N images, H height, W width, C channels, 1 or 3.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import hashlib
import math
import mmap
from typing import Any

import numpy as np

from common_flax.data.source import ArraySource
from common_flax.data.source import checked_names
from common_flax.data.source import Report
from common_flax.errors import UserError
from common_flax.progress import track

MAX_CLASSES = 2**16
_CHANNELS = (1, 3)
_CHUNK = 2**23  # values that are converted or hashed at a time
_ONE_HOT = 'turn one-hot rows into numbers with labels.argmax(-1)'


@dataclasses.dataclass(frozen=True)
class _Scale:
  """Maps values to bytes: round(255 * (x - black) / (white - black))."""

  black: float
  white: float

  def __call__(self, values: np.ndarray) -> np.ndarray:
    wide = values.astype(np.result_type(values.dtype, np.float32))
    scaled = (wide - self.black) * (255 / (self.white - self.black))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


class Rows:
  """Images of an array as uint8 [N, H, W, C], converted when they are read."""

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    array: np.ndarray,
    scale: _Scale | None = None,
    indices: np.ndarray | None = None,
  ):
    """Wraps an array.

    Args:
      array: [M, H, W, C], which may be memory-mapped.
      scale: maps its values to bytes; None if they are bytes.
      indices: the rows that are the N images, int64 [N]; None for all.
    """
    self._array, self._scale, self._indices = array, scale, indices
    num = len(array) if indices is None else len(indices)
    self.shape = (num, *array.shape[1:])
    self.nbytes = math.prod(self.shape)

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    if isinstance(index, tuple):
      values = self[index[0]]
      return values[(slice(None),) * (values.ndim - 3) + index[1:]]
    rows = index if self._indices is None else self._indices[index]
    values = self._array[rows]
    return values if self._scale is None else self._scale(values)

  def __array__(self, dtype: Any = None, copy: bool | None = None):
    del copy  # it is always one
    whole = np.empty(self.shape, np.uint8)
    for part in chunks(self):
      whole[part] = self[part]
    return whole if dtype is None else whole.astype(dtype)

  @property
  def array(self) -> np.ndarray:
    """What is read, of which the images may be some rows alone."""
    return self._array

  @property
  def is_scaled(self) -> bool:
    """Whether the array holds other numbers than the bytes."""
    return self._scale is not None

  def of(self, indices: np.ndarray) -> 'Rows':
    """The images at `indices`, int64 [N]."""
    before = self._indices
    indices = indices if before is None else before[indices]
    return Rows(self._array, self._scale, indices)

  def plain(self) -> 'np.ndarray | Rows':
    """The array itself, where it holds bytes and all of its rows are meant."""
    is_plain = self._scale is None and self._indices is None
    return self._array if is_plain else self


def chunks(
  images: np.ndarray | Rows, description: str = 'Reading images'
) -> Iterator[slice]:
  """Yields slices of rows that together are a few megabytes.

  What was read of a memory-mapped file is let go after each, or it would count
  as memory of the process.

  Args:
    images: the rows.
    description: shown beside a progress bar.
  """
  size = max(1, _CHUNK // max(1, math.prod(images.shape[1:])))
  array = images.array if isinstance(images, Rows) else images
  starts = range(0, len(images), size)
  for start in track(starts, len(starts), description):
    yield slice(start, start + size)
    # Not in other modes, where changes would be lost.
    if isinstance(array, np.memmap) and array.mode == 'r':
      _let_go(array)


def _let_go(array: np.memmap) -> None:
  """Lets the pages of a memory-mapped array go; they are read again if used."""
  if hasattr(mmap, 'MADV_DONTNEED'):  # not on Windows
    array._mmap.madvise(mmap.MADV_DONTNEED)


def fingerprint(images: np.ndarray | Rows, labels: np.ndarray) -> str:
  """A digest of images uint8 [N, H, W, C] and of their labels."""
  digest = hashlib.blake2b(repr(images.shape).encode(), digest_size=16)
  for part in chunks(images, 'Taking a fingerprint'):
    digest.update(np.ascontiguousarray(images[part]))
  digest.update(np.ascontiguousarray(labels, '<i4'))
  return digest.hexdigest()


def read(
  array: np.ndarray, name: str, white_level: float | None = None
) -> tuple[Rows, str]:
  """Reads an array of images.

  Args:
    array: bytes; or floats in [0, 1] or [-1, 1]; or other numbers with a
      `white_level`. Its axes are NHWC, NCHW or NHW.
    name: of the array, for errors.
    white_level: the value that is white; of bytes, only one below 255 counts.

  Returns:
    The images, and a sentence that says how they were read, or ''.

  Raises:
    UserError: naming the array, what is wrong, and the cure.
  """
  view, layout = _channels_last(array, name)
  scale, values = _scale_of(view, name, white_level)
  read_as = [x for x in (layout, values) if x]
  note = f'{name}: read as {" and ".join(read_as)}.' if read_as else ''
  return Rows(view, scale), note


def _channels_last(array: np.ndarray, name: str) -> tuple[np.ndarray, str]:
  """A view [N, H, W, C] of an array, and what its axes were taken for."""
  shape = list(array.shape)
  cure = 'give at least one image as [N, H, W, C] with C 1 or 3, or [N, H, W]'
  if array.ndim == 3 and (shape[0] == 3 or shape[2] in _CHANNELS):
    raise UserError(
      f'{name}: shape {shape}, which may be a single image; {cure}'
    )
  if array.ndim not in (3, 4) or not array.size:
    raise UserError(f'{name}: shape {shape}; {cure}')
  if array.ndim == 3:
    return array[..., None], ''
  is_last, is_first = (shape[axis] in _CHANNELS for axis in (3, 1))
  if is_last and is_first:
    raise UserError(
      f'{name}: shape {shape}, whose channels may be the second or the last '
      'axis; give grey images as [N, H, W], or pad images of 1 or 3 pixels'
    )
  if is_last:
    return array, ''
  if is_first:
    return np.moveaxis(array, 1, -1), '[N, C, H, W]'
  raise UserError(f'{name}: shape {shape}; {cure}')


def _scale_of(
  view: np.ndarray, name: str, white_level: float | None
) -> tuple[_Scale | None, str]:
  """How values become bytes, and what they were taken for."""
  dtype, kind = view.dtype, view.dtype.kind
  if dtype == np.uint8 and (white_level is None or white_level >= 255):
    return None, ''
  if kind == 'b':
    return _Scale(0.0, 1.0), 'black and white'
  if kind not in 'iuf':
    what = 'Python objects' if kind == 'O' else str(dtype)
    raise UserError(
      f'{name}: {what}, which hold no images here; give uint8 from 0 to 255'
    )
  lowest, highest = _extremes(view)
  if not math.isfinite(lowest) or not math.isfinite(highest):
    raise UserError(f'{name}: holds NaN or infinity; repair or remove them')
  found = f'{dtype} from {lowest:.5g} to {highest:.5g}'
  if white_level is not None and lowest >= 0:
    return _Scale(0.0, white_level), f'{found}, where {white_level:g} is white'
  if kind == 'f' and 0 <= lowest and highest <= 1:
    return _Scale(0.0, 1.0), f'{found}, in [0, 1]'
  if kind == 'f' and -1 <= lowest and highest <= 1:
    return _Scale(-1.0, 1.0), f'{found}, in [-1, 1]'
  cure = 'give uint8 from 0 to 255, or floats in [0, 1] or [-1, 1]'
  if lowest >= 0 and highest <= 255:
    cure = 'if 255 is white, store images.astype(np.uint8)'
  if lowest >= 0:
    cure += '; to train on a file, dataset.white_level can say what is white'
  raise UserError(f'{name}: {found}; {cure}')


def _extremes(view: np.ndarray) -> tuple[float, float]:
  """The lowest and highest value; NaN if there is one."""
  lowest, highest = math.inf, -math.inf
  for part in chunks(view):
    values = view[part]
    low, high = float(values.min()), float(values.max())
    if math.isnan(low) or math.isnan(high):
      return math.nan, math.nan
    lowest, highest = min(lowest, low), max(highest, high)
  return lowest, highest


def read_labels(
  labels: np.ndarray, num: int, name: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
  """Reads the labels of images.

  Args:
    labels: integers from 0 on, or names, [N] or [N, 1].
    num: N.
    name: of the array, for errors.

  Returns:
    Labels int64 [N], and the names of classes, sorted, if they are names.

  Raises:
    UserError: naming the array, what is wrong, and the cure.
  """
  flat = labels[:, 0] if labels.shape == (num, 1) and num > 1 else labels
  is_name = flat.dtype.kind == 'U'
  if not (is_name or flat.dtype.kind in 'iu') or flat.shape != (num,):
    cure = f'; {_ONE_HOT}' if labels.ndim == 2 and len(labels) == num else ''
    raise UserError(
      f'{name}: {labels.dtype} {list(labels.shape)}; give one integer class '
      f'for each of the {num:,} images{cure}'
    )
  if is_name:
    names, numbers = np.unique(flat, return_inverse=True)
    return numbers, tuple(map(str, names))
  lowest, highest = int(flat.min()), int(flat.max())
  if lowest < 0 or highest >= MAX_CLASSES:
    raise UserError(
      f'{name}: from {lowest} to {highest}; number the classes from 0 to at '
      f'most {MAX_CLASSES - 1:,}'
    )
  return flat.astype(np.int64), None


def without_gaps(labels: np.ndarray, num_classes: int, name: str) -> list[str]:
  """A sentence about the classes that no image has, if there are any."""
  missing = sorted({*range(num_classes)} - {*np.unique(labels).tolist()})
  if not missing:
    return []
  listed = ', '.join(map(str, missing[:5]))
  more = f' and {len(missing) - 5:,} more' if len(missing) > 5 else ''
  plural = 'es' if len(missing) > 1 else ''
  return [f'{name}: no image has the class{plural} {listed}{more}.']


def from_arrays(
  images: np.ndarray,
  labels: np.ndarray | Sequence | None = None,
  class_names: Sequence[str] | None = None,
) -> ArraySource:
  """A source of images given as an array.

  Args:
    images: uint8 [N, H, W, C] with C 1 or 3, or whatever `read` reads.
    labels: integer classes from 0 on, or names, [N]; None for images without
      labels.
    class_names: a name for each class, that of class 0 first; None if they have
      none.

  Raises:
    UserError: if an array has the wrong type, shape or values.
  """
  rows, note = read(as_array(images, 'images'), 'images')
  notes = [note] if note else []
  examples = rows.plain()
  if isinstance(examples, Rows) and not isinstance(images, np.memmap):
    examples = np.asarray(examples)
  if labels is None:
    if class_names is not None:
      raise UserError('class_names: name the classes of labels; give labels')
    numbers, num_classes = np.full(len(rows), -1, np.int32), None
  else:
    found, names = read_labels(as_array(labels, 'labels'), len(rows), 'labels')
    numbers, highest = found.astype(np.int32), int(found.max())
    if class_names is not None and names is not None:
      raise UserError('class_names: the labels are names; give one of the two')
    class_names = names or class_names
    if class_names is not None:
      class_names = checked_names(class_names, 'class_names')
      if highest >= len(class_names):
        raise UserError(
          f'class_names: {len(class_names)} names, and labels up to {highest}; '
          'name every class'
        )
    num_classes = highest + 1 if class_names is None else len(class_names)
    notes += without_gaps(numbers, num_classes, 'labels')
  return ArraySource(
    examples,
    numbers,
    num_classes,
    class_names,
    Report(notes=(*notes,)),
    fingerprint=fingerprint(examples, numbers),
  )


def as_array(values: Any, name: str) -> np.ndarray:
  """An array of what is given; a memory-mapped one stays mapped.

  Raises:
    UserError: if it is none.
  """
  try:
    return np.asanyarray(values)
  except Exception as error:  # arrays of other libraries raise many types
    reason = ' '.join(str(error).split())[:300]
    raise UserError(f'{name}: is no array: {reason}') from error
