"""Local copies of folders in object stores such as gs://."""

import hashlib
import os
import pathlib
import shutil

import fsspec

from common_flax import files
from common_flax.data import caches
from common_flax.errors import UserError
from common_flax.progress import track

_CHUNK = 64  # objects fetched at a time


def local_copy(path: str, keep: tuple[str, ...] | None = None) -> pathlib.Path:
  """A local folder as it is, or a cached copy of a remote one.

  If an object in the store changes, the folder is copied again.

  Args:
    path: path of the folder.
    keep: lower-case endings of the objects to copy; None for all.

  Raises:
    UserError: if the folder cannot be reached or copied.
  """
  return copy_and_rest(path, keep)[0]


def copy_and_rest(
  path: str, keep: tuple[str, ...] | None
) -> tuple[pathlib.Path, list[str]]:
  """As `local_copy`, with the names of the objects that were not copied.

  Of a local folder, none are named.
  """
  if not files.is_remote(path):
    return pathlib.Path(os.path.expanduser(path)), []
  try:
    store, root = fsspec.core.url_to_fs(path)
    objects = store.find(root, detail=True)
  except Exception as error:  # each store raises its own types
    raise UserError(files.unreachable(path, error)) from error
  chosen = {
    os.path.relpath(name, root): about
    for name, about in sorted(objects.items())
    if keep is None or name.lower().endswith(keep)
  }
  rest = sorted({os.path.relpath(name, root) for name in objects} - {*chosen})
  for name in chosen:
    if name.startswith('..') or os.path.isabs(name) or '/../' in name:
      raise UserError(f'{path}/{name}: leads outside the folder; remove it')
  if not chosen:
    raise UserError(f'{path}: no such folder, or no usable files in it')
  entry = caches.folder('fetched') / _digest(path, chosen)
  copy = entry / pathlib.PurePosixPath(root).name
  if not copy.exists():
    try:
      _fetch(store, root, chosen, copy)
    except Exception as error:
      raise UserError(f'{path}: cannot be copied to {copy}: {error}') from error
  return copy, rest


def _digest(path: str, objects: dict[str, dict]) -> str:
  digest = hashlib.blake2b(path.encode(), digest_size=16)
  for name, about in objects.items():
    digest.update(f'{name} {about} '.encode())  # as fsspec's `ukey` does
  return digest.hexdigest()


def _fetch(
  store: fsspec.AbstractFileSystem,
  root: str,
  objects: dict[str, dict],
  copy: pathlib.Path,
) -> None:
  names = list(objects)
  starts = range(0, len(names), _CHUNK)
  with caches.new_entry(copy) as folder:
    size = sum(about['size'] for about in objects.values())
    if shutil.disk_usage(folder).free < size:
      raise OSError(f'it has {size / 2**30:.1f} GiB, more than is free')
    for start in track(starts, len(starts), 'Fetching files'):
      chunk = names[start : start + _CHUNK]
      targets = [folder / name for name in chunk]
      for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
      store.get([f'{root}/{name}' for name in chunk], [*map(str, targets)])
