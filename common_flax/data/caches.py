"""The user's cache: files that can be made again."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import tempfile


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
