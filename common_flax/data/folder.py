"""A folder of image files, whose sub-folders may be classes."""

from collections.abc import Iterator
import os
import pathlib

import numpy as np

from common_flax import files as files_lib
from common_flax.data import remote
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import num_channels
from common_flax.data.source import unreadable_split
from common_flax.errors import UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')
_SPLIT_SEED = 0
_TEST_SHARE = 0.1
_MAX_BYTES = 2**30  # of a file


class FolderImages:
  """The image files in a folder and its sub-folders, sorted by path.

  If every image lies in a sub-folder, the sub-folders are the classes, numbered
  by name; otherwise there are no labels. One image in colour makes all of them
  colour images.
  """

  def __init__(self, path: str | None, split: str):
    """Lists the files.

    Args:
      path: the folder; a remote one is copied to the cache first.
      split: name of a sub-folder, if the folder has sub-folders 'train' or
        'test'. Otherwise 'train' is 90% of the files and 'test' the other 10%,
        a fixed random choice.

    Raises:
      UserError: if the folder is missing or has no images.
    """
    if not path:
      raise UserError(
        'config.dataset.path: missing; set it to the folder of images with '
        '--config.dataset.path=FOLDER'
      )
    root = remote.local_copy(path, SUFFIXES)
    self._path, self._root = path, root
    if not os.path.isdir(root):
      raise UserError(f'config.dataset.path={path}: no such folder')
    splits = [root / name for name in ('train', 'test')]
    if any(folder.is_dir() for folder in splits):
      if not (root / split).is_dir():
        raise unreadable_split(split, f'no folder {root / split}')
      roots = {*splits, root / split}
      self._files = image_files(root / split, root)
    else:
      roots = {root}
      self._files = _split(image_files(root), split)
    if not self._files:
      raise UserError(
        f'config.dataset.path={path}: no images in split {split!r}; looked '
        f'for {", ".join(SUFFIXES)} in it and its sub-folders'
      )
    # All splits share their classes, so that a label means the same in each.
    classes = {
      file: file.relative_to(folder).parts[0]
      for folder in roots
      for file in image_files(folder, root)
    }
    labelled = all(name != file.name for file, name in classes.items())
    numbers = {name: i for i, name in enumerate(sorted({*classes.values()}))}
    self.num_classes = len(numbers) if labelled else None
    self.class_names = tuple(numbers) if labelled else None
    self._labels = [
      numbers[classes[file]] if labelled else -1 for file in self._files
    ]
    self.channels = max_channels(self._files)

  def __len__(self) -> int:
    return len(self._files)

  def name(self, index: int) -> str:
    return os.path.join(self._path, self._files[index].relative_to(self._root))

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    return [(read_file(self._files[i]), self._labels[i]) for i in indices]


def image_files(
  folder: pathlib.Path, root: pathlib.Path | None = None
) -> list[pathlib.Path]:
  """The image files in a folder and its sub-folders, sorted by path.

  Args:
    folder: the folder, which need not exist.
    root: symbolic links must stay inside this folder; by default `folder`.

  Raises:
    UserError: naming a link that leads outside, or something other than a file
      that has the suffix of an image.
  """
  if not os.path.isdir(folder):
    return []
  home = os.path.realpath(root or folder)
  if folder.is_symlink():
    _check_inside(folder, home)
  found = []
  for path in _walk(folder):
    is_image = path.suffix.lower() in SUFFIXES
    if path.is_symlink() and (is_image or os.path.isdir(path)):
      _check_inside(path, home)
    if is_image and not os.path.isdir(path):
      if not os.path.isfile(path):
        raise UserError(
          f'{path}: has the suffix of an image but is no file; remove it'
        )
      found.append(path)
  return sorted(found)


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields everything below a folder that is not hidden.

  Raises:
    UserError: naming a folder that cannot be read.
  """

  def refuse(error: OSError) -> None:
    raise UserError(f'{error.filename}: cannot be read: {error.strerror}')

  for place, folders, files in os.walk(folder, onerror=refuse):
    folders[:] = [name for name in folders if not name.startswith('.')]
    for name in (*folders, *files):
      if not name.startswith('.'):
        yield pathlib.Path(place, name)


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
  if split not in ('train', 'test'):
    raise unreadable_split(
      split,
      'a folder without sub-folders train and test has the splits train and '
      'test',
    )
  order = np.argsort(np.random.Philox(key=_SPLIT_SEED).random_raw(len(files)))
  num_test = round(_TEST_SHARE * len(files))
  chosen = order[:num_test] if split == 'test' else order[num_test:]
  return [files[i] for i in sorted(chosen)]


def max_channels(files: list[pathlib.Path]) -> int:
  """1 if every image is grey, else 3.

  Raises:
    UserError: naming a file that cannot be read.
  """
  return max(map(_num_channels, files))


def _num_channels(file: pathlib.Path) -> int:
  try:
    return num_channels(file)
  except CorruptImageError:
    return 1  # decoding will name it
  except OSError as error:
    raise UserError(f'{file}: cannot be read: {error.strerror}') from error
