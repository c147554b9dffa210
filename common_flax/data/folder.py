"""A folder of image files, whose sub-folders may be splits and classes."""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from common_flax import files as files_lib
from common_flax.data import arrangement
from common_flax.data import remote
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import num_channels
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import LeftOut
from common_flax.data.source import Report
from common_flax.data.source import unreadable_split
from common_flax.errors import UserError

SUFFIXES = (
  *('.png', '.apng', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp'),
  *('.bmp', '.dib', '.gif', '.tif', '.tiff'),
)
_SPLIT_SEED = 0
_TEST_SHARE = 0.1
_MAX_BYTES = 2**30  # of a file
_HIDDEN = '__MACOSX'  # a folder that macOS adds to archives


class FolderImages:
  """The image files in a folder and its sub-folders, sorted by path.

  Sub-folders are splits by their names, and else classes, numbered by name; see
  `common_flax.data.arrangement`. One image in colour makes all of them colour
  images.
  """

  def __init__(
    self,
    path: str | None,
    split: str,
    *,
    skip_corrupt: bool = False,
    rendering: Rendering = ON_WHITE,
  ):
    """Lists the files.

    Args:
      path: the folder; a remote one is copied to the cache first.
      split: 'train', 'test' or 'validation', or a synonym, if the folder has
        splits; without a folder 'test', that is 'validation'. Otherwise 'train'
        is 90% of the files and 'test' the other 10%, a fixed random choice.
      skip_corrupt: leave out unreadable files instead of raising.
      rendering: on which it depends whether an image is grey.

    Raises:
      UserError: if the folder is missing or has no images, if its splits are
        ambiguous, or naming an unreadable file.
    """
    if not path:
      raise UserError(
        'config.dataset.path: missing; set it to the folder of images with '
        '--config.dataset.path=FOLDER'
      )
    root, rest = remote.copy_and_rest(path, SUFFIXES)
    self._path, self._root = path, root
    if not os.path.isdir(root):
      raise UserError(f'config.dataset.path={path}: no such folder')
    listing = list_images(root, skip_broken=skip_corrupt)
    found = arrangement.arrange(
      [file.relative_to(root) for file in listing.files],
      [folder.relative_to(root) for folder in listing.folders],
      path,
      extra=split,
    )
    reasons = {x: _reason_of(x) for x in rest} | dict(found.left_out)
    self._left_out = [
      dataclasses.replace(x, name=self._shown(x.name)) for x in listing.left_out
    ] + [LeftOut(os.path.join(path, x), why) for x, why in reasons.items()]
    self._notes = [found.note] if found.note else []
    chosen = self._of_split(found, split)
    self._files, self.channels = self._readable(chosen, skip_corrupt, rendering)
    if not self._files:
      raise UserError(
        f'config.dataset.path={path}: no images in split {split!r}; looked '
        f'for {", ".join(SUFFIXES)} in it and its sub-folders'
        + ''.join(f'. {x}' for x in Report((*self._left_out,)).lines())
      )
    names = found.class_of
    numbers = {x: i for i, x in enumerate(sorted({*(names or {}).values()}))}
    self.num_classes = None if names is None else len(numbers)
    self.class_names = None if names is None else tuple(numbers)
    self._labels = [
      -1 if names is None else numbers[names[file.relative_to(root)]]
      for file in self._files
    ]

  @property
  def report(self) -> Report:
    """What was left out."""
    return Report((*self._left_out,), (*self._notes,))

  def __len__(self) -> int:
    return len(self._files)

  def name(self, index: int) -> str:
    return self._shown(self._files[index])

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    return [(read_file(self._files[i]), self._labels[i]) for i in indices]

  def _shown(self, file: str | pathlib.Path) -> str:
    """The path of a file below the folder as the user named it."""
    folder = '/' if str(file).endswith('/') else ''
    relative = pathlib.Path(file).relative_to(self._root)
    return os.path.join(self._path, relative) + folder

  def _of_split(
    self, found: arrangement.Arrangement, split: str
  ) -> list[pathlib.Path]:
    """The files of a split, without held-out ones that are trained on."""
    name = arrangement.split_named(split) or split
    if None in found.splits:
      train, held_out = (
        _split([self._root / x for x in found.splits[None]], part)
        for part in ('train', 'test')
      )
      if name not in ('train', 'test'):
        raise unreadable_split(
          split,
          'a folder without sub-folders train and test has the splits train '
          'and test',
        )
      chosen = train if name == 'train' else held_out
    else:
      if name == 'test' and name not in found.splits:
        name = 'validation'
      if name not in found.splits:
        there = ', '.join(found.splits)
        raise unreadable_split(
          split, f'no folder {self._root / split}; the splits are {there}'
        )
      if name == 'validation' and split == 'test':
        self._notes.append(
          f'{self._path} has no folder test: the split test is its folder '
          'validation.'
        )
      chosen = [self._root / x for x in found.splits[name]]
      train = [self._root / x for x in found.splits.get('train', ())]
    if name not in arrangement.HELD_OUT:
      return chosen
    copies = _copies(chosen, train)
    if chosen and len(copies) == len(chosen):
      self._notes.append(
        f'All images of the split {split} of {self._path} are also trained on.'
      )
      return chosen
    self._left_out += [
      LeftOut(self._shown(x), 'also trained on', f'as {self._shown(copies[x])}')
      for x in copies
    ]
    return [file for file in chosen if file not in copies]

  def _readable(
    self,
    files: Sequence[pathlib.Path],
    skip_unreadable: bool,
    rendering: Rendering,
  ) -> tuple[list[pathlib.Path], int]:
    """The files that can be opened, and the channels of their images."""
    readable, channels = [], 1
    for file in files:
      try:
        channels = max(channels, _num_channels(file, rendering))
        readable.append(file)
      except UserError as error:
        if not skip_unreadable:
          raise
        detail = str(error).rpartition(': ')[2]
        self._left_out.append(LeftOut(self._shown(file), 'unreadable', detail))
    return readable, channels


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
      reason = _reason_of(path, 'unreadable')
    elif is_folder:
      reason = 'a link to a folder' if path.is_symlink() else None
    elif not is_image:
      reason = _reason_of(path)
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


def _reason_of(
  path: str | pathlib.PurePath, default: str = 'without the ending of an image'
) -> str:
  """Why a file or folder is left out by its name."""
  name = pathlib.PurePath(path).name
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
    folders[:] = [name for name in folders if _reason_of(name) != 'hidden']
    for name in names:
      yield pathlib.Path(place, name), _reason_of(name) != 'hidden'
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


def _split(files: list[pathlib.Path], split: str) -> list[pathlib.Path]:
  order = np.argsort(np.random.Philox(key=_SPLIT_SEED).random_raw(len(files)))
  num_test = round(_TEST_SHARE * len(files))
  chosen = order[:num_test] if split == 'test' else order[num_test:]
  return [files[i] for i in sorted(chosen)]


def _copies(
  files: Sequence[pathlib.Path], others: Sequence[pathlib.Path]
) -> dict[pathlib.Path, pathlib.Path]:
  """The `files` whose content one of the `others` has: {file: the other}."""

  def by(key, paths):
    return {key(path): path for path in reversed(paths)}

  def size(path):
    return path.stat().st_size

  def digest(path):
    try:
      return hashlib.blake2b(read_file(path), digest_size=16).digest()
    except UserError:  # named when it is read
      return path

  sizes = {size(path) for path in files} - {0}
  others = by(digest, [path for path in others if size(path) in sizes])
  sizes = {size(path) for path in others.values()}
  alike = {path: digest(path) for path in files if size(path) in sizes}
  return {x: others[key] for x, key in alike.items() if key in others}


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
