"""Where a user's machine keeps what can be made again."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import tempfile


def folder(name: str) -> pathlib.Path:
  """The folder `name` of this software's caches, which may not exist yet.

  They are below XDG_CACHE_HOME, by default ~/.cache; deleting them costs
  nothing but the time to make their content again.
  """
  root = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return pathlib.Path(root) / 'gan_vae_flax' / name


@contextlib.contextmanager
def new_entry(entry: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder that becomes `entry` once it is whole."""
  entry.parent.mkdir(parents=True, exist_ok=True)
  folder = pathlib.Path(tempfile.mkdtemp(dir=entry.parent))
  try:
    yield folder
    with contextlib.suppress(OSError):  # another process was faster
      folder.rename(entry)
  finally:
    shutil.rmtree(folder, ignore_errors=True)
