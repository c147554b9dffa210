"""The user's cache: files that can be made again."""

from collections.abc import Iterator
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import zlib

import numpy as np

from common_flax import files
from common_flax.errors import UserError

_CHECKSUM_BYTES = 16
_CHECKSUMS = 'checksums.json'  # of the files of a folder
_ROWS = 256  # of an array, read at a time


def folder(name: str) -> pathlib.Path:
  """The cache folder `name`, which may not exist yet.

  All caches lie below XDG_CACHE_HOME, by default ~/.cache, and may be deleted
  at any time.
  """
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(root) / 'gan_vae_flax' / name


@contextlib.contextmanager
def new_entry(entry: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary folder that becomes `entry` once it is complete."""
  entry.parent.mkdir(parents=True, exist_ok=True)
  folder = pathlib.Path(tempfile.mkdtemp(dir=entry.parent))
  try:
    yield folder
    with contextlib.suppress(OSError):  # another process was faster
      folder.rename(entry)
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def read(entry: pathlib.Path) -> bytes | None:
  """The content of a file that `write` wrote; None if missing or damaged."""
  try:
    data = entry.read_bytes()
  except OSError:
    return None
  checksum, content = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
  return content if checksum == _checksum(content) else None


def write(entry: pathlib.Path, content: bytes) -> None:
  """Writes a file behind its checksum, if there is room for it."""
  try:
    entry.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(entry, _checksum(content) + content)
  except OSError:  # it will be made again
    pass


def _checksum(content: bytes) -> bytes:
  return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES).digest()


def write_checksums(folder: pathlib.Path, images: np.ndarray) -> None:
  """Writes the checksums of the files in a folder.

  Args:
    folder: an entry, not yet complete.
    images: the array in its images.npy, [N, ...].
  """
  checksums = {
    path.name: zlib.crc32(path.read_bytes())
    for path in folder.iterdir()
    if path.name != 'images.npy'
  }
  checksums['images.npy'] = _crc32(images)
  (folder / _CHECKSUMS).write_text(json.dumps(checksums))


def check(folder: pathlib.Path, images: np.ndarray | None) -> None:
  """Compares the files in a folder with their checksums.

  Args:
    folder: an entry.
    images: the array in its images.npy; None leaves it out.

  Raises:
    OSError, ValueError: if a file is damaged.
  """
  for name, expected in files.read_json(folder / _CHECKSUMS).items():
    if name != 'images.npy':
      found = zlib.crc32((folder / name).read_bytes())
    elif images is not None:
      found = _crc32(images)
    else:
      continue
    if found != expected:
      raise ValueError(f'{name} is damaged')


def _crc32(array: np.ndarray) -> int:
  checksum = 0
  for start in range(0, len(array), _ROWS):
    rows = np.ascontiguousarray(array[start : start + _ROWS])
    checksum = zlib.crc32(rows, checksum)
  return checksum


def no_room(folder: pathlib.Path, what: str, error: Exception) -> UserError:
  """The error for a cache that cannot hold `what`."""
  return UserError(
    f'{folder}: cannot store {what} ({error}); free some space, or set '
    'XDG_CACHE_HOME to a folder on another disk'
  )
