"""Arrays stored in .npy and .npz files, memory-mapped where they can be.

Nothing is unpickled. The size that a header claims is checked before memory is
allocated.
"""

import dataclasses
import math
import os
import pathlib
import struct
from typing import BinaryIO
import zipfile

import numpy as np

from common_flax.cpu import memory
from common_flax.errors import UserError

_LOCAL_HEADER = 30  # bytes of a zip member's header, before its name


@dataclasses.dataclass(frozen=True)
class Member:
  """An array in a file."""

  file: pathlib.Path
  name: str  # for errors
  shape: tuple[int, ...]
  is_fortran: bool
  dtype: np.dtype
  offset: int | None  # of its bytes in the file; None if they are compressed
  member: str | None = None  # its name in the .npz

  def load(self) -> np.ndarray:
    """The array, memory-mapped if it can be.

    Raises:
      UserError: if it does not fit into memory.
    """
    order = 'F' if self.is_fortran else 'C'
    size = math.prod(self.shape) * self.dtype.itemsize
    if not size:
      return np.empty(self.shape, self.dtype)
    if self.offset is not None:
      return np.memmap(
        self.file, self.dtype, 'r', self.offset, self.shape, order
      )
    if size > memory.total_bytes() // 2:
      raise UserError(
        f'{self.name}: is compressed, and {size / 2**30:,.1f} GiB do not fit '
        'into memory; store it with np.savez or np.save, which need not'
      )
    with zipfile.ZipFile(self.file) as archive:
      with archive.open(self.member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_header(
  file: BinaryIO, name: str, stored: int
) -> tuple[tuple[int, ...], bool, np.dtype]:
  """The header of an array: shape, order and type.

  Args:
    file: at the start of the array.
    name: of the array, for errors.
    stored: bytes of the array with its header.

  Raises:
    UserError: if they are fewer than the header claims, or Python objects.
  """
  version = np.lib.format.read_magic(file)
  read = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }.get(version)
  if read is None:
    raise UserError(f'{name}: version {version} of .npy is unknown')
  shape, is_fortran, dtype = read(file)
  if dtype.hasobject:
    raise UserError(
      f'{name}: holds Python objects, which are not read, as they could run '
      'code; store numbers, or names as strings'
    )
  if min(shape, default=0) < 0 or (
    math.prod(shape) * dtype.itemsize > stored - file.tell()
  ):
    raise UserError(f'{name}: is shorter than its shape, {list(shape)}')
  return shape, is_fortran, dtype


def members_of(file: pathlib.Path, shown: str) -> dict[str, Member]:
  """The arrays in a file by name; that of an .npy is 'images'.

  Raises:
    UserError: if the file is damaged.
  """
  try:
    if file.suffix.lower() == '.npy':
      with open(file, 'rb') as stream:
        size = os.fstat(stream.fileno()).st_size
        header = _read_header(stream, shown, size)
        return {'images': Member(file, shown, *header, stream.tell())}
    return _members_of_npz(file, shown)
  except UserError:
    raise
  except Exception as error:  # zip files and their arrays raise many types
    reason = ' '.join(str(error).split())[:300] or type(error).__name__
    raise UserError(f'{shown}: cannot be read: {reason}') from error


def _members_of_npz(file: pathlib.Path, shown: str) -> dict[str, Member]:
  found = {}
  with zipfile.ZipFile(file) as archive, open(file, 'rb') as raw:
    end = os.fstat(raw.fileno()).st_size
    for info in archive.infolist():
      if not info.filename.endswith('.npy'):
        continue
      key = info.filename.removesuffix('.npy')
      name = f'{shown}: {key}'
      with archive.open(info) as stream:
        header = _read_header(stream, name, info.file_size)
        skipped = stream.tell()
      offset = None
      if info.compress_type == zipfile.ZIP_STORED:
        raw.seek(info.header_offset + _LOCAL_HEADER - 4)
        offset = raw.tell() + 4 + sum(struct.unpack('<HH', raw.read(4)))
        if offset + info.file_size > end:
          raise UserError(f'{name}: is shorter than its shape')
        offset += skipped
      found[key] = Member(file, name, *header, offset, info.filename)
  return found
