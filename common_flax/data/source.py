"""Sources: random access to images or points.

Dimensions: N examples, H height, W width, C channels.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Protocol

import numpy as np

from common_flax import files
from common_flax.data.cropping.wide_images import WideImages
from common_flax.errors import UserError


@dataclasses.dataclass(frozen=True)
class LeftOut:
  """A file, or a folder with all that is in it, that is not among the images.

  Attributes:
    name: its path.
    reason: why, in a few words that many files may share.
    detail: what the decoder said.
  """

  name: str
  reason: str
  detail: str = ''

  @property
  def kind(self) -> str:
    """The ending of its name."""
    if self.name.endswith('/'):
      return 'folder'
    return pathlib.PurePath(self.name).suffix.lower() or 'no ending'


@dataclasses.dataclass(frozen=True)
class Report:
  """What happened to the files of a data set on their way to images.

  Attributes:
    left_out: the files that are not among the images.
    notes: sentences about those that are.
    background: colour behind transparent pixels and beside images; None if it
      is not seen.
  """

  left_out: tuple[LeftOut, ...] = ()
  notes: tuple[str, ...] = ()
  background: str | None = None

  def lines(self, file: str | None = None) -> list[str]:
    """The report, without the names of files.

    Args:
      file: path of the file that has the `text`; None if there is none, and
        the first names are listed.
    """
    if not self.left_out:
      return [*self.notes]
    reasons = collections.Counter(x.reason for x in self.left_out)
    counts = []
    for reason, number in reasons.most_common():
      kinds = collections.Counter(
        x.kind for x in self.left_out if x.reason == reason
      )
      listed = [f'{count:,} {kind}' for kind, count in kinds.most_common()]
      more = [f'{len(listed) - 8} more endings'] if len(listed) > 8 else []
      counts.append(f'{number:,} {reason} ({", ".join([*listed[:8], *more])})')
    where = f'named in {file}'
    if file is None:
      where = f'first {files.one_line(self.left_out[0].name)}'
    number = f'{len(self.left_out):,} file{"s" * (len(self.left_out) > 1)}'
    return [f'Left out {number}: {"; ".join(counts)}; {where}.', *self.notes]

  def text(self) -> str:
    """The files that were left out, one per line after the reason."""
    rows = [
      f'{x.reason}{x.detail and f" ({x.detail})"}: {x.name}'
      for x in self.left_out
    ]
    return ''.join(f'{files.one_line(row)}\n' for row in rows)


def report_of(source: 'Source') -> Report:
  """The report of a source; an empty one for a source that has none."""
  return getattr(source, 'report', Report())


class Source(Protocol):
  """Random access to examples, as TFDS and Grain define it.

  A source may have the attribute `class_names` too, see `class_names`, and
  `fingerprint`, a string by which a resumed run knows its data.
  """

  @property
  def example_shape(self) -> tuple[int, ...]:
    """Images: (H, W, C); points: (2,)."""

  @property
  def dtype(self) -> np.dtype:
    """Images: uint8; points: float32."""

  @property
  def num_classes(self) -> int | None:
    """None: no labels, and every label is -1."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    """{'image': uint8 [H, W, C], 'label': int}, or 'point': float32 [2]."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """A source held in memory, or in a memory-mapped file.

  `examples` may be anything that is indexed as an array is and has its shape.
  """

  examples: np.ndarray  # uint8 [N, H, W, C], or float32 [N, 2]
  labels: np.ndarray  # int32 [N]
  num_classes: int | None
  class_names: tuple[str, ...] | None = None  # the name of class 0 first
  report: Report = Report()
  _: dataclasses.KW_ONLY
  wide: WideImages | None = None  # from which batches are cropped, if given
  fingerprint: str | None = None  # a digest of the data; None if not taken

  @property
  def example_shape(self) -> tuple[int, ...]:
    return self.examples.shape[1:]

  @property
  def dtype(self) -> np.dtype:
    return self.examples.dtype

  @property
  def is_in_memory(self) -> bool:
    pixels = self.examples if self.wide is None else self.wide.pixels
    return isinstance(pixels, np.ndarray) and not isinstance(pixels, np.memmap)

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    kind = 'image' if self.examples.dtype == np.uint8 else 'point'
    return {kind: self.examples[index], 'label': int(self.labels[index])}


def checked_names(names: Sequence[str], field: str) -> tuple[str, ...]:
  """The names of classes.

  Args:
    names: the names, that of class 0 first.
    field: what gave them, for errors.

  Raises:
    UserError: if they are not different, non-empty strings.
  """
  is_list = isinstance(names, list | tuple | np.ndarray)
  if not is_list or not all(isinstance(n, str) and n for n in names):
    raise UserError(f'{field}: give a list of names, one for each class')
  names = tuple(map(str, names))
  if len({*names}) < len(names):
    twice = next(name for name in names if names.count(name) > 1)
    raise UserError(f'{field}: two classes are called {twice!r}')
  return names


def class_names(source: Source) -> tuple[str, ...] | None:
  """The names of a source's classes, that of class 0 first; None if unknown.

  Raises:
    UserError: if they are not one name for each class.
  """
  names = getattr(source, 'class_names', None)
  if names is None or source.num_classes is None:
    return None
  names = checked_names(names, 'class_names of the source')
  if len(names) != source.num_classes:
    raise UserError(
      f'class_names of the source: {len(names)} names for '
      f'{source.num_classes} classes; name every class'
    )
  return names


def example_of(source: Source, index: int) -> dict[str, np.ndarray | int]:
  """Reads an example, and checks that it is what the source promises.

  Raises:
    UserError: naming the example and what is wrong.
  """
  try:
    example = source[index]
    kind = 'point' if len(source.example_shape) == 1 else 'image'
    found, label = np.asarray(example[kind]), int(example['label'])
  except UserError:
    raise
  except Exception as error:  # of the user's code
    reason = ' '.join(str(error).split())[:300]
    raise UserError(
      f'source[{index}] of {len(source):,}: cannot be read '
      f'({type(error).__name__}: {reason}); correct __len__ or __getitem__'
    ) from error
  shape, dtype = tuple(source.example_shape), np.dtype(source.dtype)
  if found.shape != shape or found.dtype != dtype:
    raise UserError(
      f'source[{index}]: is {found.dtype} {list(found.shape)}, and the source '
      f'has the example_shape {list(shape)} and the dtype {dtype}'
    )
  num = source.num_classes
  if num is not None and not 0 <= label < num:
    raise UserError(
      f'source[{index}]: has the label {label}; num_classes={num} allows 0 to '
      f'{num - 1}'
    )
  return example


def check_source(source: Source) -> None:
  """Checks a source that was given, at a few of its examples.

  Raises:
    UserError: naming what is wrong.
  """
  names = ('__len__', '__getitem__', 'example_shape', 'dtype', 'num_classes')
  lacks = [name for name in names if not hasattr(source, name)]
  if lacks:
    raise UserError(
      f'source: a {type(source).__name__} without {", ".join(lacks)}; give an '
      'array of images, or a Source as common_flax.data describes it'
    )
  num, shape = len(source), tuple(source.example_shape)
  allowed = {1: np.float32, 3: np.uint8}.get(len(shape))
  if allowed is None or source.dtype != allowed or shape[-1] not in (1, 2, 3):
    raise UserError(
      f'source: examples {np.dtype(source.dtype)} {list(shape)}; give images '
      'uint8 [H, W, C] with C 1 or 3, or points float32 [2]'
    )
  if not num:
    raise UserError('source: holds no example; give at least one')
  for index in sorted({0, num // 2, num - 1}):
    example_of(source, index)


class EncodedImages(Protocol):
  """Encoded images, which a data format provides to become a source."""

  channels: int
  num_classes: int | None
  class_names: tuple[str, ...] | None  # None if unknown
  report: Report  # of what precedes decoding

  def __len__(self) -> int: ...

  def name(self, index: int) -> str:
    """Names an image in errors: a file, a record."""

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    """The encoded images and labels at `indices`."""


def chunks(
  encoded: EncodedImages, size: int
) -> Iterator[tuple[list[int], list[bytes], list[int]]]:
  """Yields (indices, encoded images, labels) of consecutive chunks."""
  for start in range(0, len(encoded), size):
    indices = list(range(start, min(start + size, len(encoded))))
    data, labels = zip(*encoded.read(indices), strict=True)
    yield indices, data, labels


def unreadable_split(split: str, reason: str) -> UserError:
  """The error for a split, which names the field and the flag that set it."""
  return UserError(f'config.dataset.split={split!r} (or --split): {reason}')


def first_examples(source: Source, num: int) -> np.ndarray:
  """The first examples of a source, at most `num`.

  Returns:
    Images uint8 [N, H, W, C], or points float32 [N, 2].
  """
  kind = 'image' if source.dtype == np.uint8 else 'point'
  return np.stack([source[i][kind] for i in range(min(num, len(source)))])
