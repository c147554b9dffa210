"""Decoded and resized images, made once and kept in the user's cache.

An entry's name is a digest of all that it is made of, the stored images
themselves included: another image, size or way of resizing makes another entry.

Dimensions: N examples, S image side, C channels.
"""

from collections.abc import Iterator
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil

import numpy as np

from common_flax import caches
from common_flax import files
from common_flax.config import UserError
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode
from common_flax.data.source import ArraySource
from common_flax.data.source import EncodedImages
from common_flax.data.source import Progress

# Raised whenever `decode` gives other pixels, or an entry says other things.
_DECODE_VERSION = 2
# Encoded images of at least this many bytes are worth a thread each to decode;
# for smaller ones the threads wait for each other.
_THREADED_BYTES = 16_384
_CHUNK = 256  # encoded images held at a time, where they are small


def _chunks(
  encoded: EncodedImages, size: int
) -> Iterator[tuple[list[int], list[bytes], list[int]]]:
  """Yields indices, stored images and labels, in order."""
  for start in range(0, len(encoded), size):
    indices = list(range(start, min(start + size, len(encoded))))
    data, labels = zip(*encoded.read(indices), strict=True)
    yield indices, data, labels


def _digest(encoded: EncodedImages, image_size: int, progress: Progress) -> str:
  """Names what decoding these images gives."""
  kind = (_DECODE_VERSION, image_size, encoded.channels, len(encoded))
  digest = hashlib.blake2b(repr(kind).encode(), digest_size=16)
  examples = (
    example
    for _, data, labels in _chunks(encoded, _CHUNK)
    for example in zip(data, labels, strict=True)
  )
  for data, label in progress(examples, len(encoded), 'Checking images'):
    digest.update(f'{len(data)} {label} '.encode())
    digest.update(data)
  return digest.hexdigest()


def _decode_all(
  encoded: EncodedImages, image_size: int
) -> Iterator[tuple[int, np.ndarray | CorruptImageError, int]]:
  """Yields (index, pixels or what is wrong with the image, label), in order."""

  def decode_one(data: bytes) -> np.ndarray | CorruptImageError:
    try:
      return decode(data, image_size, encoded.channels)
    except CorruptImageError as error:
      return error

  ((first, _),) = encoded.read([0])
  threads = os.cpu_count() if len(first) >= _THREADED_BYTES else 1
  chunk = _CHUNK if threads == 1 else 4 * threads
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    for indices, data, labels in _chunks(encoded, chunk):
      run = map if threads == 1 else pool.map
      yield from zip(indices, run(decode_one, data), labels, strict=True)


def _decode_into(
  images: np.ndarray,
  encoded: EncodedImages,
  skip_corrupt: bool,
  progress: Progress,
) -> tuple[np.ndarray, list[int]]:
  """Fills the first of `images`; returns their labels, and which it left out.

  Raises:
    UserError: naming a broken image, or if no image is left.
  """
  labels, broken = [], []
  for index, pixels, label in progress(
    _decode_all(encoded, images.shape[1]), len(encoded), 'Decoding images'
  ):
    if not isinstance(pixels, CorruptImageError):
      images[len(labels)] = pixels
      labels.append(label)
    elif skip_corrupt:
      broken.append(index)
    else:
      raise UserError(
        f'{encoded.name(index)}: cannot be decoded ({pixels}); repair or '
        'remove it, or go on without such images with '
        '--config.dataset.skip_corrupt=True'
      )
  if not labels:
    raise UserError(f'{encoded.name(0)}: none of the images can be decoded')
  return np.asarray(labels, np.int32), broken


def _make_entry(
  entry: pathlib.Path,
  encoded: EncodedImages,
  shape: tuple[int, ...],
  skip_corrupt: bool,
  progress: Progress,
) -> None:
  with caches.new_entry(entry) as folder:
    free = shutil.disk_usage(folder).free
    if free < np.prod(shape):
      raise OSError(f'{free / 2**30:.1f} GiB are free')
    images = np.lib.format.open_memmap(
      folder / 'images.npy', 'w+', np.uint8, shape
    )
    labels, broken = _decode_into(images, encoded, skip_corrupt, progress)
    images.flush()
    np.save(folder / 'labels.npy', labels)
    (folder / 'left_out.json').write_text(json.dumps(broken))


def load_encoded(
  encoded: EncodedImages,
  image_size: int,
  *,
  skip_corrupt: bool,
  in_memory_bytes: int,
  progress: Progress,
) -> ArraySource:
  """Decodes every image, or takes what an earlier run decoded.

  Args:
    encoded: the images as stored.
    image_size: height and width of the result in pixels.
    skip_corrupt: leave broken images out instead of raising.
    in_memory_bytes: hold the decoded images in memory if they take no more
      than this; else they are read from the cache as they are needed.
    progress: `progress(iterable, total, description)` gives the iterable back
      while it shows how far it is.

  Raises:
    UserError: naming a broken image, or if no image is left, or if images too
      large for memory cannot be kept in the cache.
  """
  shape = (len(encoded), image_size, image_size, encoded.channels)
  in_memory = np.prod(shape) <= in_memory_bytes
  name = _digest(encoded, image_size, progress)
  # Entries without broken images serve both.
  entry = caches.folder('images') / name
  if skip_corrupt and not entry.exists():
    entry = entry.with_name(f'{name}_skipping')
  try:
    if not entry.exists():
      _make_entry(entry, encoded, shape, skip_corrupt, progress)
    images = np.load(entry / 'images.npy', mmap_mode='r', allow_pickle=False)
    labels = np.load(entry / 'labels.npy', allow_pickle=False)
    broken = json.loads((entry / 'left_out.json').read_text())
  except (OSError, ValueError) as error:
    if isinstance(error, UserError):
      raise
    if not in_memory:
      raise UserError(
        f'{entry.parent}: cannot keep {np.prod(shape) / 2**30:.1f} GiB of '
        f'decoded images ({error}); make room, or set XDG_CACHE_HOME to a '
        'folder that has it'
      ) from error
    images = np.empty(shape, np.uint8)
    labels, broken = _decode_into(images, encoded, skip_corrupt, progress)
  for index in broken:
    name = files.one_line(encoded.name(index))
    print(f'Left out, cannot be decoded: {name}')
  images = images[: len(labels)]
  return ArraySource(
    examples=np.array(images) if in_memory else images,
    labels=labels,
    num_classes=encoded.num_classes,
  )
