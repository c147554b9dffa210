"""The path that a command's --output names: checked first, then written."""

from collections.abc import Iterator
import contextlib
import os
import pathlib

from common_flax import files
from common_flax.errors import UserError


@contextlib.contextmanager
def writable(path: str) -> Iterator[pathlib.Path]:
  """Yields the local path; turns failures to write it into a UserError.

  Args:
    path: value of --output, in which ~ is the home folder.

  Raises:
    UserError: if the path is remote or cannot be written.
  """
  if files.is_remote(path):
    raise UserError(f'--output={path}: give a path on this machine')
  try:
    yield pathlib.Path(os.path.expanduser(path))
  except OSError as error:
    raise UserError(
      f'--output={path}: cannot be written to: {error.strerror or error}'
    ) from error


def check(path: str, *, is_file: bool) -> None:
  """Checks that an output can be written, before anything is drawn.

  Args:
    path: path of the output.
    is_file: whether the output is a file rather than a folder.

  Raises:
    UserError: naming the obstacle.
  """
  with writable(path) as target:
    if is_file and target.is_dir():
      raise UserError(f'--output={path}: is a folder; give a file')
    if target.exists() and not target.is_dir() and not target.is_file():
      raise UserError(f'--output={path}: is not a regular file; use another')
    nearest = target.parent if is_file else target
    while not nearest.exists() and nearest != nearest.parent:
      nearest = nearest.parent
    if not nearest.is_dir():
      raise UserError(f'--output={path}: {nearest} is a file, not a folder')
    if not os.access(nearest, os.W_OK | os.X_OK):
      raise UserError(f'--output={path}: {nearest} cannot be written to')


def write_bytes(path: str, data: bytes) -> None:
  """Writes a file and its parent folders.

  Raises:
    UserError: if the path cannot be written.
  """
  with writable(path) as target:
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(target, data)
