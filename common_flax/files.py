"""Files on disk and in object stores; untrusted files and texts."""

import json
import os
from typing import Any

from etils import epath
import fsspec.config

# A listing cache would miss objects that TensorStore writes or others move.
fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False

# Packages whose errors mean that an object store failed.
_STORES = ('aiohttp', 'fsspec', 'gcsfs', 'google')
_MAX_JSON_BYTES = 2**20
# Characters shown of a long line: its beginning names the problem, its end the
# cure.
_SHOWN_BEGINNING = 1200
_SHOWN_END = 400


def one_line(text: str) -> str:
  """Escapes unprintable characters and shortens the middle of a long text."""
  if len(text) > _SHOWN_BEGINNING + _SHOWN_END:
    text = f'{text[:_SHOWN_BEGINNING]} [...] {text[-_SHOWN_END:]}'
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def is_remote(path: epath.PathLike) -> bool:
  """Whether a path is in an object store, such as gs://bucket/folder."""
  return '://' in str(path)


def unreachable(path: epath.PathLike, error: Exception) -> str:
  """The message for an object store that cannot be reached, with a cure."""
  cure = 'check its name and your permissions'
  if isinstance(error, ImportError):
    cure = 'for gs://, pip install gcsfs google-cloud-storage'
  return f'{path}: cannot be reached ({error}); {cure}'


def is_file_error(error: Exception) -> bool:
  """Whether an error comes from a file system or an object store."""
  store = type(error).__module__.partition('.')[0] in _STORES
  return store or isinstance(error, OSError)


def is_regular(path: epath.PathLike) -> bool:
  """Whether a path is a regular file, not a pipe or device."""
  path = epath.Path(path)
  if is_remote(path):
    return path.is_file()
  return os.path.isfile(path)


def make_folder(folder: epath.PathLike) -> None:
  """Makes a folder and its parents where missing.

  Object stores have no folders; their libraries would make a bucket instead.
  """
  if not is_remote(folder):
    epath.Path(folder).mkdir(parents=True, exist_ok=True)


def move_folder(folder: epath.PathLike, target: epath.PathLike) -> None:
  """Moves a folder to a path that does not exist yet."""
  target = epath.Path(target)
  if is_remote(folder):  # a folder is a common prefix of names
    store, root = fsspec.core.url_to_fs(str(folder))
    store.mv(root, store._strip_protocol(str(target)), recursive=True)
  else:
    make_folder(target.parent)
    epath.Path(folder).rename(target)


def write_bytes(path: epath.PathLike, data: bytes) -> None:
  """Writes a file atomically: under another name first, then renamed."""
  path = epath.Path(path)
  if is_remote(path):  # objects appear once they are complete
    path.write_bytes(data)
    return
  partial = path.with_name(f'.{path.name}.partial')
  partial.unlink(missing_ok=True)  # could be a link to another file
  try:
    partial.write_bytes(data)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def read_bytes(path: epath.PathLike, max_bytes: int) -> bytes:
  """Reads a file.

  Raises:
    OSError: if the file is missing, larger than `max_bytes`, or not regular:
      reading from a pipe could block forever.
  """
  path = epath.Path(path)
  if path.exists() and not is_regular(path):
    raise OSError('is not a regular file')
  size = path.stat().length
  if size > max_bytes:
    raise OSError(f'has {size:,} bytes, more than the limit {max_bytes:,}')
  return path.read_bytes()


def read_json(
  path: epath.PathLike, max_bytes: int = _MAX_JSON_BYTES
) -> dict[str, Any]:
  """Reads a JSON object from a file of at most `max_bytes`.

  Raises:
    OSError: if the file cannot be read, see `read_bytes`.
    ValueError: if the file contains no JSON object.
  """
  try:
    value = json.loads(read_bytes(path, max_bytes))
  except RecursionError as error:
    raise ValueError('its brackets are nested too deeply') from error
  if not isinstance(value, dict):
    raise ValueError(f'is a {type(value).__name__}, not a JSON object')
  return value
