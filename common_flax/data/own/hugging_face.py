"""Data sets of Hugging Face's library `datasets`, from local files alone.

They are Parquet files, or a folder that `save_to_disk` wrote. The library comes
with the extra `hf`, and is imported here only. It is kept off the network.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import io
import os
import pathlib
import re
from typing import Any
from typing import TYPE_CHECKING

import numpy as np

from common_flax.data import arrangement
from common_flax.data import arrays
from common_flax.data import caches
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import num_channels
from common_flax.data.own import columns
from common_flax.data.own import splits
from common_flax.data.rendering import Rendering
from common_flax.data.source import LeftOut
from common_flax.data.source import Report
from common_flax.errors import UserError
from common_flax.progress import track

if TYPE_CHECKING:
  import datasets

PARQUET = '.parquet'
_DICT = 'dataset_dict.json'  # of a data set with splits
_STATE = ('state.json', 'dataset_info.json')  # of one without
_CHUNK = 256  # rows read at a time

Loader = Callable[[], 'datasets.Dataset']


def is_saved(folder: pathlib.Path) -> bool:
  """Whether `save_to_disk` wrote a folder."""
  has = [(folder / name).is_file() for name in (_DICT, *_STATE)]
  return has[0] or all(has[1:])


def parquet_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The Parquet files in a folder and its sub-folders, sorted."""
  return sorted(x for x in folder.rglob(f'*{PARQUET}') if x.is_file())


class HuggingFaceImages:
  """The images of one split of a data set."""

  def __init__(
    self,
    name: str,
    root: pathlib.Path,
    split: str,
    *,
    labels: str | None = None,
    skip_corrupt: bool = False,
    rendering: Rendering,
  ):
    """Opens a data set.

    Args:
      name: the file or folder as the user named it.
      root: the same on this machine.
      split: a split of the data set; if it has none, 'train' is 90% of the rows
        and 'test' the other 10%, a fixed random choice.
      labels: name of the column of labels; None to find it.
      skip_corrupt: whether damaged images will be left out.
      rendering: on which it depends whether an image is grey.

    Raises:
      UserError: if the library is missing, or the data set is unreadable, has
        no images, no such column or no such split.
    """
    self._name = name
    there = _loaders(name, root)
    chosen, self._notes = splits.choose(there, split, name, 'split')
    whole = None in there
    table = _opened(there[None if whole else chosen], name)
    self._image = columns.image_column(table, name)
    self._label, note = columns.label_column(table, name, labels)
    self._notes += [note] if note else []
    indices = np.arange(len(table))
    train, train_indices = None, indices
    if whole:
      train = table
      train_indices = np.array(splits.seeded(indices, 'train'), np.int64)
      indices = np.array(splits.seeded(indices, chosen), np.int64)
    elif 'train' in there and chosen in arrangement.HELD_OUT:
      train = _opened(there['train'], name)
      train_indices = np.arange(len(train))
    self._table = _encoded(table, self._image, self._label)
    self._read_labels(table, there)
    self._indices, self._left_out = indices, []
    if train is not None and chosen in arrangement.HELD_OUT:
      train = _encoded(train, self._image, self._label)
      self._leave_out_copies(train, train_indices, split)
    if not len(self._indices):
      raise UserError(f'config.dataset.path={name}: no rows in split {split!r}')
    self.channels = self._channels(rendering, skip_corrupt)

  @property
  def report(self) -> Report:
    """What was left out."""
    return Report((*self._left_out,), (*self._notes,))

  def __len__(self) -> int:
    return len(self._indices)

  def name(self, index: int) -> str:
    return f'{self._name}, row {self._indices[index]}'

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    rows = [int(self._indices[i]) for i in indices]
    contents = self._bytes(self._table, rows)
    return [
      (content, int(self._labels[row]))
      for row, content in zip(rows, contents, strict=True)
    ]

  def _bytes(self, table: 'datasets.Dataset', rows: list[int]) -> list[bytes]:
    values = table[rows][self._image]
    return [
      columns.content(value, f'{self._name}, row {row}')
      for row, value in zip(rows, values, strict=True)
    ]

  def _read_labels(
    self, table: 'datasets.Dataset', there: Mapping[str | None, Loader]
  ) -> None:
    """Reads the labels; a class means the same in every split."""
    self.num_classes = self.class_names = None
    self._labels = np.full(len(table), -1)
    if self._label is None:
      return
    where = f'{self._name}: column {self._label}'
    names = getattr(table.features[self._label], 'names', None)
    values = columns.values(table, self._label, where)
    if names:
      self.class_names, self.num_classes = tuple(names), len(names)
      self._labels, _ = arrays.read_labels(values, len(table), where)
      return
    others = [_opened(load, self._name) for load in there.values()]
    everything = np.concatenate(
      [columns.values(x, self._label, where) for x in others]
    )
    numbers, names = arrays.read_labels(everything, len(everything), where)
    self.num_classes = int(numbers.max()) + 1
    if names is None:
      self._labels = values
      self._notes += arrays.without_gaps(numbers, self.num_classes, where)
    else:
      self.class_names = names
      self._labels = np.searchsorted(np.array(names), values)

  def _leave_out_copies(
    self, train: 'datasets.Dataset', train_indices: np.ndarray, split: str
  ) -> None:
    def digests(table, indices):
      for start in range(0, len(indices), _CHUNK):
        rows = [int(i) for i in indices[start : start + _CHUNK]]
        for row, content in zip(rows, self._bytes(table, rows), strict=True):
          yield row, hashlib.blake2b(content, digest_size=16).digest()

    seen = {digest: row for row, digest in digests(train, train_indices)}
    copies = {
      row: seen[digest]
      for row, digest in digests(self._table, self._indices)
      if digest in seen
    }
    if len(copies) == len(self._indices):
      self._notes += [splits.all_trained_on(split, self._name)] * bool(copies)
      return
    self._indices = np.array([i for i in self._indices if i not in copies])
    self._left_out = [
      LeftOut(f'{self._name}, row {row}', 'also trained on', f'as row {other}')
      for row, other in copies.items()
    ]

  def _channels(self, rendering: Rendering, skip_corrupt: bool) -> int:
    """1 if every image is grey, else 3."""
    starts = range(0, len(self), _CHUNK)
    for start in track(starts, len(starts), 'Looking for colours'):
      rows = [int(i) for i in self._indices[start : start + _CHUNK]]
      for content in self._bytes(self._table, rows):
        try:
          if num_channels(io.BytesIO(content), rendering) == 3:
            return 3
        except CorruptImageError:  # decoding will name it
          pass
    return 1


def _library(name: str) -> Any:
  """The module `datasets`, which must not reach for the network."""
  os.environ.setdefault('HF_DATASETS_OFFLINE', '1')  # read when imported
  os.environ.setdefault('HF_HUB_OFFLINE', '1')
  try:
    import datasets
  except ImportError as error:
    raise UserError(
      f'config.dataset.path={name}: needs the library datasets of Hugging '
      'Face: pip install datasets'
    ) from error
  datasets.disable_progress_bars()
  return datasets


def _loaders(name: str, root: pathlib.Path) -> dict[str | None, Loader]:
  """How to open each split; None holds all rows of a data set without splits.

  Raises:
    UserError: if it is unclear what the splits are.
  """
  library = _library(name)
  if (root / _DICT).is_file():
    folders = [x for x in sorted(root.iterdir()) if is_saved(x)]
    return {
      arrangement.split_named(x.name) or x.name: _from_disk(library, x)
      for x in folders
    }
  if is_saved(root):
    return {None: _from_disk(library, root)}
  if root.is_file():
    return {None: _from_parquet(library, [root])}
  found = {}
  for file in parquet_files(root):
    found.setdefault(_split_of(file.relative_to(root)), []).append(file)
  if None in found and len(found) > 1:
    raise UserError(
      f'{name}: {found[None][0].name} names no split, and other Parquet files '
      'do; give one of the files, or rename it such as train.parquet'
    )
  return {
    split: _from_parquet(library, files) for split, files in found.items()
  }


def _split_of(path: pathlib.PurePath) -> str | None:
  """The split of a Parquet file, by its folders or the start of its name."""
  first = re.match('[A-Za-z]+', path.stem)
  words = [*path.parts[:-1], *([first[0]] if first else [])]
  return next(filter(None, map(arrangement.split_named, words)), None)


def _from_disk(library: Any, folder: pathlib.Path) -> Loader:
  return lambda: library.load_from_disk(str(folder))


def _from_parquet(library: Any, files: Sequence[pathlib.Path]) -> Loader:
  cache = str(caches.folder('hugging_face'))
  return lambda: library.Dataset.from_parquet(
    [*map(str, files)], cache_dir=cache
  )


def _opened(load: Loader, name: str) -> 'datasets.Dataset':
  try:
    return load().with_format(None)
  except Exception as error:  # the library raises many types
    reason = ' '.join(str(error.__cause__ or error).split())[:300]
    raise UserError(f'{name}: cannot be read: {reason}') from error


def _encoded(
  table: 'datasets.Dataset', image: str, label: str | None
) -> 'datasets.Dataset':
  """The columns of images, encoded as they are, and of labels."""
  table = table.select_columns([x for x in (image, label) if x])
  if hasattr(table.features[image], 'decode'):
    kind = type(table.features[image])
    table = table.cast_column(image, kind(decode=False))
  return table
