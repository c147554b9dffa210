"""The user's cache: files that can be made again."""

from collections.abc import Iterator
import contextlib
import hashlib
import os
import pathlib
import shutil
import tempfile

from common_flax import files

_CHECKSUM_BYTES = 16


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
