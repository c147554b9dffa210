"""What every source of images gives: random access to squares of bytes.

Dimensions: N examples, S image side, C channels.
"""

import dataclasses
from typing import Protocol

import numpy as np


class Source(Protocol):
  """Random access to examples, as TFDS and Grain define it."""

  image_shape: tuple[int, int, int]  # (S, S, C)
  num_classes: int | None  # None: no labels, and every label is -1

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    """{'image': uint8 [S, S, C], 'label': int}."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """A source held in memory, or in a file that is mapped to memory."""

  images: np.ndarray  # uint8 [N, S, S, C]
  labels: np.ndarray  # int32 [N]
  num_classes: int | None

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.images.shape[1:]

  @property
  def is_in_memory(self) -> bool:
    return not isinstance(self.images, np.memmap)

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    return {'image': self.images[index], 'label': int(self.labels[index])}


class EncodedImages(Protocol):
  """Images as stored: what a data format has to say to become a source."""

  channels: int
  num_classes: int | None

  def __len__(self) -> int: ...

  def name(self, index: int) -> str:
    """What to call an image in an error: a file, a record."""

  def read(self, indices: list[int]) -> list[tuple[bytes, int]]:
    """The encoded images and labels at `indices`."""
