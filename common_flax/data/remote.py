"""Folders of object stores such as gs://, copied to this machine once."""

from collections.abc import Iterable
import hashlib
import os
import pathlib
import shutil

import fsspec

from common_flax import caches
from common_flax import files
from common_flax.config import UserError
from common_flax.data.source import Progress

_AT_ONCE = 64  # objects that are fetched at a time


def local_copy(
  path: str, progress: Progress, keep: Iterable[str] | None = None
) -> pathlib.Path:
  """A folder of this machine, or a copy of a remote one.

  The copy lies in the user's cache. Other objects, or others of the same names,
  make another copy.

  Args:
    path: of the folder.
    progress: shows how far fetching is, see `load_encoded`.
    keep: endings, in small letters, of the objects to copy; None for all.

  Raises:
    UserError: if it cannot be reached, or not be copied.
  """
  if not files.is_remote(path):
    return pathlib.Path(os.path.expanduser(path))
  try:
    store, root = fsspec.core.url_to_fs(path)
    objects = store.find(root, detail=True)
  except Exception as error:  # each store has errors of its own
    raise UserError(files.unreachable(path, error)) from error
  chosen = {
    os.path.relpath(name, root): about
    for name, about in sorted(objects.items())
    if keep is None or pathlib.PurePath(name).suffix.lower() in keep
  }
  for name in chosen:
    if name.startswith('..') or os.path.isabs(name) or '/../' in name:
      raise UserError(f'{path}/{name}: leads out of the folder; remove it')
  if not chosen:
    raise UserError(f'{path}: there is no such folder, or nothing of use in it')
  entry = caches.folder('fetched') / _digest(path, chosen)
  copy = entry / pathlib.PurePosixPath(root).name
  if not copy.exists():
    try:
      _fetch(store, root, chosen, copy, progress)
    except Exception as error:
      raise UserError(f'{path}: cannot be copied to {copy}: {error}') from error
  return copy


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
  progress: Progress,
) -> None:
  names = list(objects)
  starts = range(0, len(names), _AT_ONCE)
  with caches.new_entry(copy) as folder:
    missing = sum(about['size'] for about in objects.values())
    if shutil.disk_usage(folder).free < missing:
      raise OSError(f'it has {missing / 2**30:.1f} GiB, more than are free')
    for start in progress(starts, len(starts), 'Fetching files'):
      chunk = names[start : start + _AT_ONCE]
      targets = [folder / name for name in chunk]
      for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
      store.get([f'{root}/{name}' for name in chunk], [*map(str, targets)])
