"""The path that a command's --output names: checked first, then written.

The ending of the path says what is written. A path without an ending, or one
that ends in a slash, is a folder, and so is an existing folder whose name has a
dot.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import pathlib

from common_flax import files
from common_flax.errors import UserError

FOLDER = ''  # the ending of a folder
PICTURES = ('.png', '.jpg', '.jpeg', '.webp')
ANIMATIONS = ('.gif', '.mp4')
ARRAYS = ('.npz', '.npy')
NUMBERS = '.json'
TABLE = '.csv'
PAGE = '.html'
_KNOWN = (*PICTURES, *ANIMATIONS, *ARRAYS, NUMBERS, TABLE, PAGE)


@contextlib.contextmanager
def writable(path: str, flag: str = '--output') -> Iterator[pathlib.Path]:
  """Yields the local path; turns failures to write it into a UserError.

  Args:
    path: value of the flag, in which ~ is the home folder.
    flag: the flag that names the path, for errors.

  Raises:
    UserError: if the path is remote or cannot be written.
  """
  if files.is_remote(path):
    raise UserError(f'{flag}={path}: give a path on this machine')
  try:
    yield pathlib.Path(os.path.expanduser(path))
  except OSError as error:
    raise UserError(
      f'{flag}={path}: cannot be written to: {error.strerror or error}'
    ) from error


def ending(path: str) -> str:
  """The ending of an output in lower case, such as '.png'; '' for a folder."""
  if path.endswith(('/', os.sep)):
    return FOLDER
  target = pathlib.Path(os.path.expanduser(path))
  suffix = target.suffix.lower()
  if suffix in _KNOWN:
    return suffix
  try:
    return FOLDER if target.is_dir() else suffix
  except OSError:
    return suffix


def check(
  path: str,
  endings: Sequence[str],
  *,
  flag: str = '--output',
  may_hold_files: bool = False,
) -> str:
  """Checks that an output can be written, before anything is drawn.

  Args:
    path: path of the output.
    endings: those that the command writes; FOLDER stands for a folder.
    flag: the flag that names the path, for errors.
    may_hold_files: whether an existing folder may hold files. Otherwise it must
      be empty but for hidden files, so that nothing old is taken for new.

  Returns:
    The ending of the path.

  Raises:
    UserError: naming the obstacle.
  """
  found = ending(path)
  with writable(path, flag) as target:
    if found not in endings:
      raise _refusal(path, found, endings, flag)
    if found and target.is_dir():
      raise UserError(f'{flag}={path}: is a folder; give a file')
    if target.exists() and not target.is_dir() and not target.is_file():
      raise UserError(f'{flag}={path}: is not a regular file; use another')
    nearest = target.parent if found else target
    while not nearest.exists() and nearest != nearest.parent:
      nearest = nearest.parent
    if not nearest.is_dir():
      raise UserError(f'{flag}={path}: {nearest} is a file, not a folder')
    if not os.access(nearest, os.W_OK | os.X_OK):
      raise UserError(f'{flag}={path}: {nearest} cannot be written to')
    if not found and nearest == target and not may_hold_files:
      _check_empty(target, flag, path)
  return found


def _check_empty(folder: pathlib.Path, flag: str, path: str) -> None:
  """Refuses a folder that holds anything but hidden files."""
  for each in folder.iterdir():
    if not each.name.startswith('.'):
      raise UserError(
        f'{flag}={path}: already holds files, such as {each.name}; give a new '
        'or an empty folder'
      )


def _refusal(
  path: str, found: str, endings: Sequence[str], flag: str
) -> UserError:
  """The error for an output that the command does not write."""
  named = [each for each in endings if each]
  cures = []
  if named:
    cures.append(f'give a file that ends in {" or ".join(named)}')
  if FOLDER in endings:
    cures.append('a folder' if named else 'give a folder')
  what = f'files in {found} are not written' if found else 'is a folder'
  cure = ', or '.join(cures)
  if found and found not in _KNOWN and FOLDER in endings:
    cure += '; a new folder with a dot in its name ends in /'
  return UserError(f'{flag}={path}: {what}; {cure}')


def write_bytes(path: str, data: bytes, flag: str = '--output') -> None:
  """Writes a file and its parent folders.

  Raises:
    UserError: if the path cannot be written.
  """
  with writable(path, flag) as target:
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(target, data)
