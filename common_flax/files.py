"""Files and texts that others made: read and shown without harm."""

import json
import os
from typing import Any

from etils import epath
import fsspec.config

# gcsfs would not know of the objects that TensorStore writes, and others move.
fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False

# Libraries that reach object stores.
_STORES = ('aiohttp', 'fsspec', 'gcsfs', 'google')
_MAX_JSON_BYTES = 2**20
# Of a line that is shown: the beginning names what is wrong, the end the cure.
_SHOWN_BEGINNING = 1200
_SHOWN_END = 400


def one_line(text: str) -> str:
  """A text as one line of printable characters, its middle left out if long."""
  if len(text) > _SHOWN_BEGINNING + _SHOWN_END:
    text = f'{text[:_SHOWN_BEGINNING]} [...] {text[-_SHOWN_END:]}'
  return ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def is_remote(path: epath.PathLike) -> bool:
  """Whether a path is of an object store, such as gs://bucket/folder."""
  return '://' in str(path)


def unreachable(path: epath.PathLike, error: Exception) -> str:
  """What to say where an object store cannot be reached."""
  cure = 'check its name, and that this machine may use it'
  if isinstance(error, ImportError):
    cure = "install what it needs: pip install -e '.[gcs]'"
  return f'{path}: cannot be reached ({error}); {cure}'


def is_file_error(error: Exception) -> bool:
  """Whether a file is to blame, on this machine or in a store."""
  store = type(error).__module__.partition('.')[0] in _STORES
  return store or isinstance(error, OSError)


def is_regular(path: epath.PathLike) -> bool:
  """Whether there is a file, and no pipe or device that is called so."""
  path = epath.Path(path)
  if is_remote(path):
    return path.is_file()
  return os.path.isfile(path)


def make_folder(folder: epath.PathLike) -> None:
  """Makes a folder and its parents, if they are not there.

  Stores have none; asked for one, their libraries would make the bucket.
  """
  if not is_remote(folder):
    epath.Path(folder).mkdir(parents=True, exist_ok=True)


def move_folder(folder: epath.PathLike, target: epath.PathLike) -> None:
  """Moves a folder to where nothing is yet."""
  target = epath.Path(target)
  if is_remote(folder):  # where there are no folders, but in names
    store, root = fsspec.core.url_to_fs(str(folder))
    store.mv(root, store._strip_protocol(str(target)), recursive=True)
  else:
    make_folder(target.parent)
    epath.Path(folder).rename(target)


def read_bytes(path: epath.PathLike, max_bytes: int) -> bytes:
  """The content of a file.

  Raises:
    OSError: if it is missing, larger than `max_bytes`, or no regular file: to
      read from a pipe could take forever.
  """
  path = epath.Path(path)
  if path.exists() and not is_regular(path):
    raise OSError('is no regular file')
  size = path.stat().length
  if size > max_bytes:
    raise OSError(f'has {size:,} bytes; at most {max_bytes:,} are read')
  return path.read_bytes()


def read_json(path: epath.PathLike) -> dict[str, Any]:
  """The JSON object that a file holds.

  Raises:
    OSError: if it cannot be read, see `read_bytes`.
    ValueError: if it holds no JSON object.
  """
  try:
    value = json.loads(read_bytes(path, _MAX_JSON_BYTES))
  except RecursionError as error:
    raise ValueError('its brackets are nested too deeply') from error
  if not isinstance(value, dict):
    raise ValueError(f'is a {type(value).__name__}, not a JSON object')
  return value
