"""A zip file of a folder of images, read in place.

Nothing is extracted, so no name in it can lead anywhere. Only what a file would
unpack to is limited.

Zip files may be made by anyone: a member is read up to the size that the
directory states, which is checked first.
"""

import functools
import ntpath
import os
import pathlib
import stat
import zipfile

from common_flax.data.arrangement import split_named
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import num_channels
from common_flax.data.own.listing import Listing
from common_flax.data.own.listing import reason_of
from common_flax.data.own.listing import SUFFIXES
from common_flax.data.rendering import Rendering
from common_flax.data.source import LeftOut
from common_flax.errors import UserError

_MAX_BYTES = 2**28  # of a file in it
# Image files hardly shrink, but for bitmaps of one colour. More than this is a
# bomb.
_MAX_GROWTH, _FREE_BYTES = 200, 2**28
_ENCRYPTED = 1  # flag of a member
_DAMAGED = b'damaged in the zip file'

Path = pathlib.PurePosixPath


class Zip:
  """A zip file as a place of images.

  A folder in it that holds all images is no class: most zip files of a folder
  have one. Paths of images start below it.

  Attributes:
    name: the file as the user named it.
    base: the folder that holds all images.
  """

  def __init__(self, name: str, file: pathlib.Path):
    """Opens a zip file.

    Args:
      name: as the user named it.
      file: the file on this machine.

    Raises:
      UserError: if it is damaged.
    """
    self.name = name
    try:
      self._archive = zipfile.ZipFile(file)
    except Exception as error:  # damaged ones raise many types
      raise UserError(
        f'config.dataset.path={name}: cannot be read as a zip file: '
        f'{_one_line(error)}'
      ) from error
    self._members: dict[Path, zipfile.ZipInfo] = {}
    self.base = Path()

  def listing(self, skip_broken: bool) -> Listing:
    """Lists the images.

    Args:
      skip_broken: leave out files that a password protects or that are too
        large instead of raising.

    Raises:
      UserError: naming such a file, or if the file is a bomb.
    """
    infos, left_out, folders, inner = {}, {}, set(), set()
    hidden_above = functools.cache(_outermost_hidden)  # few folders, many files
    for info in self._archive.infolist():
      path = Path(info.filename.replace('\\', '/'))
      if path in infos and not info.is_dir():
        left_out[f'{path} (earlier)'] = 'replaced by a later file of its name'
      infos[path] = info
    for path, info in infos.items():
      hidden = hidden_above(path.parent)
      if hidden is None and reason_of(path, '') == 'hidden':
        hidden = path
      if _leads_outside(path):
        left_out[info.filename] = 'with a path outside the zip file'
      elif hidden is not None:
        shown = f'{hidden}/' if hidden != path else str(path)
        left_out[shown] = 'hidden'
      elif info.is_dir():
        folders |= {path, *path.parents}
      elif stat.S_ISLNK(info.external_attr >> 16):
        left_out[info.filename] = 'a link'
      elif path.suffix.lower() not in SUFFIXES:
        left_out[info.filename] = reason_of(path)
        self._members[path] = info
      elif reason := self._fault(info, skip_broken):
        left_out[info.filename] = reason
      else:
        self._members[path] = info
        inner.add(path.parent)
    folders.update(y for x in inner for y in (x, *x.parents))
    images = sorted(x for x in self._members if x.suffix.lower() in SUFFIXES)
    self._refuse_bombs(images)
    self.base = _common_folder(images)
    below = [x for x in folders if self.base in x.parents]
    return Listing(
      [path.relative_to(self.base) for path in images],
      sorted(path.relative_to(self.base) for path in below),
      [
        LeftOut(os.path.join(self.name, x.lstrip('/')), why)
        for x, why in left_out.items()
      ],
    )

  def shown(self, path: pathlib.PurePath | str) -> str:
    """The path of a file as the user sees it."""
    full = self._full(path)
    return os.path.join(self.name, full if full in self._members else path)

  def size(self, path: Path) -> int:
    """Bytes of a file."""
    return self._members[self._full(path)].file_size

  def read(self, path: Path) -> bytes:
    """The content of a file; of a damaged one, bytes that are no image."""
    info = self._members[self._full(path)]
    try:
      return _DAMAGED if self._fault(info, True) else self._archive.read(info)
    except Exception:  # damaged members raise many types
      return _DAMAGED

  def channels(self, path: Path, rendering: Rendering) -> int:
    """1 for a grey image, else 3.

    Raises:
      UserError: if the file is damaged.
    """
    try:
      with self._archive.open(self._members[self._full(path)]) as file:
        return num_channels(file, rendering)
    except CorruptImageError:
      return 1  # decoding will name it
    except Exception as error:  # damaged members raise many types
      raise UserError(
        f'{self.shown(path)}: cannot be read: {_one_line(error)}'
      ) from error

  def find(self, path: str) -> bytes | None:
    """The content of a file that is no image; None if there is none."""
    return self.read(Path(path)) if self._full(path) in self._members else None

  def _full(self, path: pathlib.PurePath | str) -> Path:
    """The path from the top of a file below the base, or at the top."""
    below = self.base / path
    return below if below in self._members else Path(path)

  def _fault(self, info: zipfile.ZipInfo, skip_broken: bool) -> str | None:
    """Why a file cannot be read, as a reason to leave it out."""
    if info.flag_bits & _ENCRYPTED:
      reason, cure = 'with a password', 'make the zip file without a password'
    elif info.file_size > _MAX_BYTES:
      reason, cure = _too_large(info), 'shrink the image'
    else:
      return None
    if not skip_broken:
      raise UserError(
        f'{self.name}/{info.filename}: is {reason}; {cure}, or leave it out '
        'with --config.dataset.skip_corrupt=True'
      )
    return reason

  def _refuse_bombs(self, images: list[Path]) -> None:
    unpacked = sum(self._members[x].file_size for x in images)
    stored = os.path.getsize(self._archive.filename)
    if unpacked > _FREE_BYTES + _MAX_GROWTH * stored:
      raise UserError(
        f'config.dataset.path={self.name}: {stored:,} bytes would unpack to '
        f'{unpacked / 2**30:,.1f} GiB of images, as a zip bomb does; if you '
        'trust it, unpack it and give the folder'
      )


def _common_folder(images: list[Path]) -> Path:
  """The folder that holds all images, unless it is a split."""
  common = Path(
    os.path.commonpath([x.parent for x in images]) if images else ''
  )
  for folder in (common, *common.parents):
    if split_named(folder.name):
      common = folder.parent
  return common


def _outermost_hidden(folder: Path) -> Path | None:
  """The outermost hidden folder among a folder and those around it."""
  hidden = [x for x in (folder, *folder.parents) if reason_of(x) == 'hidden']
  return hidden[-1] if hidden else None


def _leads_outside(path: Path) -> bool:
  has_drive = ntpath.splitdrive(str(path))[0]
  return path.is_absolute() or '..' in path.parts or bool(has_drive)


def _too_large(info: zipfile.ZipInfo) -> str:
  return f'larger than {_MAX_BYTES / 2**20:,.0f} MiB unpacked'


def _one_line(error: Exception) -> str:
  return ' '.join(str(error).split())[:300] or type(error).__name__
