"""A folder of image files; class sub-folders give labels."""

import pathlib

import numpy as np

from common_flax.config import UserError
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import num_channels
from common_flax.data.source import unreadable_split

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')
_SPLIT_SEED = 0
_TEST_SHARE = 0.1


class FolderImages:
  """The image files below a folder, in the order of their paths.

  Labels number the sub-folders that hold images, by name; a folder with images
  of its own has no labels. All are grey only if every one of them is.
  """

  def __init__(self, path: str | None, split: str):
    """Lists the files.

    Args:
      path: the folder.
      split: a sub-folder of that name is taken if there is one; else 'train'
        and 'test' are nine tenths and one tenth of the files, the same ones at
        every start.

    Raises:
      UserError: if the folder is missing or holds no images.
    """
    if not path:
      raise UserError(
        'config.dataset.path: missing; give the folder of images with '
        '--config.dataset.path=FOLDER'
      )
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
      raise UserError(f'config.dataset.path={path}: there is no such folder')
    splits = [root / name for name in ('train', 'test')]
    if any(folder.is_dir() for folder in splits):
      if not (root / split).is_dir():
        raise unreadable_split(split, f'no folder {root / split}')
      roots = {*splits, root / split}
      self._files = image_files(root / split)
    else:
      roots = {root}
      self._files = _split(image_files(root), split)
    if not self._files:
      raise UserError(
        f'config.dataset.path={path}: no images for split {split!r}; looked '
        f'for {", ".join(SUFFIXES)} in it and below'
      )
    # Of all the splits together, so that a label means the same in each.
    classes = {
      file: file.relative_to(folder).parts[0]
      for folder in roots
      for file in image_files(folder)
    }
    labelled = all(name != file.name for file, name in classes.items())
    numbers = {name: i for i, name in enumerate(sorted({*classes.values()}))}
    self.num_classes = len(numbers) if labelled else None
    self._labels = [
      numbers[classes[file]] if labelled else -1 for file in self._files
    ]
    self.channels = max_channels(self._files)

  def __len__(self) -> int:
    return len(self._files)

  def name(self, index: int) -> str:
    return str(self._files[index])

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    return [(self._files[i].read_bytes(), self._labels[i]) for i in indices]


def image_files(root: pathlib.Path) -> list[pathlib.Path]:
  """The image files in a folder and below, in the order of their paths."""
  return sorted(
    file
    for file in root.rglob('*')
    if file.suffix.lower() in SUFFIXES
    and file.is_file()
    and not any(p.startswith('.') for p in file.relative_to(root).parts)
  )


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
    return 1  # it says nothing of the others, and decoding will name it
  except OSError as error:
    raise UserError(f'{file}: cannot be read: {error.strerror}') from error
