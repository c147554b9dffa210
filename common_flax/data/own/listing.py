"""What is in a folder of images: files, sub-folders, and what is left out."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import os
import pathlib

from common_flax import files as files_lib
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import num_channels
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import LeftOut
from common_flax.errors import UserError

SUFFIXES = (
  *('.png', '.apng', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp'),
  *('.bmp', '.dib', '.gif', '.tif', '.tiff'),
)
_MAX_BYTES = 2**30  # of a file
_HIDDEN = '__MACOSX'  # a folder that macOS adds to archives


@dataclasses.dataclass(frozen=True)
class Listing:
  """What is in a folder and its sub-folders.

  Attributes:
    files: files with the ending of an image, sorted by path.
    folders: the sub-folders that are not hidden.
    left_out: everything else.
  """

  files: list[pathlib.Path]
  folders: list[pathlib.Path]
  left_out: list[LeftOut]


def list_images(folder: pathlib.Path, *, skip_broken: bool = False) -> Listing:
  """Lists the image files in a folder and its sub-folders.

  Symbolic links must stay inside the folder.

  Args:
    folder: the folder.
    skip_broken: leave out broken links and unreadable folders instead of
      raising.

  Raises:
    UserError: naming a link that leads outside, or something other than a file
      that has the ending of an image.
  """
  home = os.path.realpath(folder)
  found, folders, left_out = [], [], []
  for path, is_seen in _walk(folder, skip_broken):
    is_image, is_folder = path.suffix.lower() in SUFFIXES, os.path.isdir(path)
    is_broken = path.is_symlink() and not os.path.exists(path)
    reason = None
    if is_seen and path.is_symlink() and (is_image or is_folder):
      if not (is_broken and skip_broken):
        _check_inside(path, home)
    if not is_seen:
      reason = reason_of(path, 'unreadable')
    elif is_folder:
      reason = 'a link to a folder' if path.is_symlink() else None
    elif not is_image:
      reason = reason_of(path)
    elif is_broken and skip_broken:
      reason = 'a broken link'
    elif not os.path.isfile(path):
      cure = ', or leave it out with --config.dataset.skip_corrupt=True'
      raise UserError(
        f'{path}: has the ending of an image but is no file; remove it'
        + cure * is_broken
      )
    if reason:
      left_out.append(LeftOut(f'{path}/' if is_folder else str(path), reason))
    else:
      (folders if is_folder else found).append(path)
  return Listing(sorted(found), sorted(folders), left_out)


def reason_of(
  path: str | pathlib.PurePath, default: str = 'without the ending of an image'
) -> str:
  """Why a file or folder is left out by its name."""
  is_path = isinstance(path, pathlib.PurePath)
  name = path.name if is_path else pathlib.PurePath(path).name
  return 'hidden' if name.startswith('.') or name == _HIDDEN else default


def _walk(
  folder: pathlib.Path, skip_unreadable: bool
) -> Iterator[tuple[pathlib.Path, bool]]:
  """Yields everything below a folder, and whether it may be looked into.

  Raises:
    UserError: naming a folder that cannot be read.
  """
  unreadable = []

  def refuse(error: OSError) -> None:
    if not skip_unreadable or error.filename == str(folder):
      raise UserError(f'{error.filename}: cannot be read: {error.strerror}')
    unreadable.append(pathlib.Path(error.filename))

  for place, folders, files in os.walk(folder, onerror=refuse):
    names = sorted((*folders, *files))
    folders[:] = [name for name in folders if reason_of(name) != 'hidden']
    for name in names:
      yield pathlib.Path(place, name), reason_of(name) != 'hidden'
  for path in unreadable:
    yield path, False


def _check_inside(path: pathlib.Path, home: str) -> None:
  target = os.path.realpath(path)
  if not pathlib.Path(target).is_relative_to(home):
    raise UserError(
      f'{path}: is a link to {target}, outside {home}; replace it with a copy, '
      'or remove it'
    )


def read_file(file: pathlib.Path) -> bytes:
  """The content of an image file.

  Raises:
    UserError: if it cannot be read.
  """
  try:
    return files_lib.read_bytes(file, _MAX_BYTES)
  except OSError as error:
    raise UserError(
      f'{file}: cannot be read: {error.strerror or error}'
    ) from error


def max_channels(
  files: Sequence[pathlib.Path], rendering: Rendering = ON_WHITE
) -> int:
  """1 if every image is grey, else 3.

  Raises:
    UserError: naming a file that cannot be read.
  """
  return max(_num_channels(file, rendering) for file in files)


def _num_channels(file: pathlib.Path, rendering: Rendering) -> int:
  try:
    return num_channels(file, rendering)
  except CorruptImageError:
    return 1  # decoding will name it
  except OSError as error:
    raise UserError(f'{file}: cannot be read: {error.strerror}') from error


class Folder:
  """A folder as a place of images, which it names by their relative paths."""

  def __init__(self, name: str, root: pathlib.Path):
    """Names a folder.

    Args:
      name: as the user named it.
      root: a copy of it on this machine, or the folder itself.
    """
    self.name, self.root, self.base = name, root, pathlib.PurePath()

  def listing(self, skip_broken: bool) -> Listing:
    """Lists the images, see `list_images`."""
    found = list_images(self.root, skip_broken=skip_broken)
    left_out = [
      dataclasses.replace(x, name=self._renamed(x.name)) for x in found.left_out
    ]
    files, folders = (
      [path.relative_to(self.root) for path in paths]
      for paths in (found.files, found.folders)
    )
    return Listing(files, folders, left_out)

  def shown(self, path: pathlib.PurePath | str) -> str:
    """The path of a file as the user named it."""
    return os.path.join(self.name, path)

  def size(self, path: pathlib.PurePath) -> int:
    """Bytes of a file."""
    return (self.root / path).stat().st_size

  def read(self, path: pathlib.PurePath) -> bytes:
    """The content of an image file, see `read_file`."""
    return read_file(self.root / path)

  def channels(self, path: pathlib.PurePath, rendering: Rendering) -> int:
    """The channels of an image, see `max_channels`."""
    return max_channels([self.root / path], rendering)

  def find(self, path: str) -> bytes | None:
    """The content of another file; None if there is none.

    Raises:
      UserError: if it cannot be read.
    """
    file = self.root / path
    if file.is_symlink():
      _check_inside(file, os.path.realpath(self.root))
    return read_file(file) if os.path.lexists(file) else None

  def _renamed(self, file: str) -> str:
    folder = '/' * file.endswith('/')
    return self.shown(pathlib.Path(file).relative_to(self.root)) + folder
