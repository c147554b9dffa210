"""What every source gives: random access to squares of bytes, or to points.

Dimensions: N examples, S image side, C channels.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
from typing import Protocol

import numpy as np

from common_flax.config import UserError

# progress(iterable, total, description) gives the iterable back, and shows how
# far it is.
Progress = Callable[[Iterable, int, str], Iterable]


def unseen(items: Iterable, total: int, description: str) -> Iterable:
  """Progress that shows nothing."""
  del total, description
  return items


class Source(Protocol):
  """Random access to examples, as TFDS and Grain define it."""

  example_shape: tuple[int, ...]  # (S, S, C) of images, (2,) of points
  dtype: np.dtype  # uint8, or float32
  num_classes: int | None  # None: no labels, and every label is -1

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    """{'image': uint8 [S, S, C], 'label': int}, or 'point': float32 [2]."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """A source held in memory, or in a file that is mapped to memory."""

  examples: np.ndarray  # uint8 [N, S, S, C], or float32 [N, 2]
  labels: np.ndarray  # int32 [N]
  num_classes: int | None

  @property
  def example_shape(self) -> tuple[int, ...]:
    return self.examples.shape[1:]

  @property
  def dtype(self) -> np.dtype:
    return self.examples.dtype

  @property
  def is_in_memory(self) -> bool:
    return not isinstance(self.examples, np.memmap)

  def __len__(self) -> int:
    return len(self.examples)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    kind = 'image' if self.examples.dtype == np.uint8 else 'point'
    return {kind: self.examples[index], 'label': int(self.labels[index])}


class EncodedImages(Protocol):
  """Images as stored: what a data format has to say to become a source."""

  channels: int
  num_classes: int | None

  def __len__(self) -> int: ...

  def name(self, index: int) -> str:
    """What to call an image in an error: a file, a record."""

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    """The encoded images and labels at `indices`."""


def unreadable_split(split: str, reason: str) -> UserError:
  """What to raise for a split; commands take it from either place."""
  return UserError(f'config.dataset.split={split!r} (or --split): {reason}')
