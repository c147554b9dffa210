"""What every source of images gives: random access to squares of bytes.

Dimensions: N examples, S image side, C channels.
"""

from collections.abc import Iterator
import concurrent.futures
import dataclasses
import os
from typing import Protocol

import numpy as np

from common_flax.config import UserError
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode

# Encoded images of at least this many bytes are worth a thread each to decode;
# for smaller ones the threads wait for each other.
_THREADED_BYTES = 16_384
_CHUNK = 256  # encoded images held at a time, where they are small


class Source(Protocol):
  """Random access to examples, as TFDS and Grain define it."""

  image_shape: tuple[int, int, int]  # (S, S, C)
  num_classes: int | None  # None: no labels, and every label is -1

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    """{'image': uint8 [S, S, C], 'label': int}."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
  """A source held in memory."""

  images: np.ndarray  # uint8 [N, S, S, C]
  labels: np.ndarray  # int32 [N]
  num_classes: int | None

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.images.shape[1:]

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


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedSource:
  """A source that decodes an image whenever it is asked for."""

  encoded: EncodedImages
  indices: np.ndarray  # int64 [N], the readable images
  image_size: int

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return (self.image_size, self.image_size, self.encoded.channels)

  @property
  def num_classes(self) -> int | None:
    return self.encoded.num_classes

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    ((data, label),) = self.encoded.read([int(self.indices[index])])
    image = decode(data, self.image_size, self.encoded.channels)
    return {'image': image, 'label': label}


def _decode_all(
  encoded: EncodedImages, image_size: int
) -> Iterator[tuple[int, np.ndarray | CorruptImageError, int]]:
  """Yields (index, pixels or what is wrong with the image, label), in order."""

  def decode_one(data: bytes) -> np.ndarray | CorruptImageError:
    try:
      return decode(data, image_size, encoded.channels)
    except CorruptImageError as error:
      return error

  (first, _), *_ = encoded.read([0])
  threads = os.cpu_count() if len(first) >= _THREADED_BYTES else 1
  chunk = _CHUNK if threads == 1 else 4 * threads
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for start in range(0, len(encoded), chunk):
      indices = list(range(start, min(start + chunk, len(encoded))))
      data, labels = zip(*encoded.read(indices), strict=True)
      run = map if threads == 1 else pool.map
      yield from zip(indices, run(decode_one, data), labels, strict=True)


def load_encoded(
  encoded: EncodedImages,
  image_size: int,
  *,
  skip_corrupt: bool,
  in_memory_bytes: int,
  progress,
) -> Source:
  """Decodes every image once, so that a broken one is met before training.

  Args:
    encoded: the images as stored.
    image_size: height and width of the result in pixels.
    skip_corrupt: leave broken images out instead of raising.
    in_memory_bytes: keep the decoded images if they take no more than this.
    progress: `progress(iterable, total, description)` gives the iterable back
      while it shows how far it is.

  Raises:
    UserError: naming a broken image, or if no image is left.
  """
  num_bytes = len(encoded) * image_size**2 * encoded.channels
  keep = num_bytes <= in_memory_bytes
  shape = (len(encoded) * keep, image_size, image_size, encoded.channels)
  images = np.empty(shape, np.uint8)
  labels, indices, broken = [], [], []
  for index, pixels, label in progress(
    _decode_all(encoded, image_size), len(encoded), 'Reading images'
  ):
    if isinstance(pixels, CorruptImageError):
      name = encoded.name(index)
      if not skip_corrupt:
        raise UserError(
          f'{name}: cannot be decoded ({pixels}); repair or remove it, or go '
          'on without such images with --config.dataset.skip_corrupt=True'
        )
      broken.append(name)
      continue
    if keep:
      images[len(indices)] = pixels
    indices.append(index)
    labels.append(label)
  if not indices:
    raise UserError(f'{encoded.name(0)}: none of the images can be decoded')
  for name in broken:
    print(f'Left out, cannot be decoded: {name}')
  if keep:
    labels = np.asarray(labels, np.int32)
    return ArraySource(images[: len(indices)], labels, encoded.num_classes)
  return DecodedSource(encoded, np.asarray(indices), image_size)
