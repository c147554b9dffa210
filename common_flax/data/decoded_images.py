"""Decoded and resized images, cached between runs.

The name of a cache entry is a digest of everything that determines its content:
the encoded images, the size, the version of the decoder.

Dimensions: N examples, S image side, C channels.
"""

from collections.abc import Iterator
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import zlib

import numpy as np

from common_flax import files
from common_flax.data import caches
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode
from common_flax.data.source import ArraySource
from common_flax.data.source import EncodedImages
from common_flax.errors import UserError
from common_flax.progress import track

# Increased whenever `decode` returns other pixels or the entry format changes.
_DECODE_VERSION = 2
# Encoded images of at least this many bytes are decoded by several threads; on
# smaller ones the threads would wait for each other.
_THREADED_BYTES = 16_384
_SMALL = ('labels.npy', 'left_out.json')  # files of an entry
_CHUNK = 256  # small encoded images read at a time


def _chunks(
  encoded: EncodedImages, size: int
) -> Iterator[tuple[list[int], list[bytes], list[int]]]:
  """Yields (indices, encoded images, labels) of consecutive chunks."""
  for start in range(0, len(encoded), size):
    indices = list(range(start, min(start + size, len(encoded))))
    data, labels = zip(*encoded.read(indices), strict=True)
    yield indices, data, labels


def _digest(encoded: EncodedImages, image_size: int) -> str:
  """The name of the cache entry of these images."""
  options = (_DECODE_VERSION, image_size, encoded.channels, len(encoded))
  digest = hashlib.blake2b(repr(options).encode(), digest_size=16)
  examples = (
    example
    for _, data, labels in _chunks(encoded, _CHUNK)
    for example in zip(data, labels, strict=True)
  )
  for data, label in track(examples, len(encoded), 'Checking images'):
    digest.update(f'{len(data)} {label} '.encode())
    digest.update(data)
  return digest.hexdigest()


def _decode_all(
  encoded: EncodedImages, image_size: int
) -> Iterator[tuple[int, np.ndarray | CorruptImageError, int]]:
  """Yields (index, pixels or error, label), in order."""

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
) -> tuple[np.ndarray, list[int]]:
  """Decodes all images into the first rows of `images`.

  Returns:
    The labels, int32, and the indices of the images that were skipped.

  Raises:
    UserError: naming a corrupt image, or if no image remains.
  """
  labels, corrupt = [], []
  for index, pixels, label in track(
    _decode_all(encoded, images.shape[1]), len(encoded), 'Decoding images'
  ):
    if not isinstance(pixels, CorruptImageError):
      images[len(labels)] = pixels
      labels.append(label)
    elif skip_corrupt:
      corrupt.append(index)
    else:
      raise UserError(
        f'{encoded.name(index)}: cannot be decoded ({pixels}); repair or '
        'remove it, or skip such images with '
        '--config.dataset.skip_corrupt=True'
      )
  if not labels:
    raise UserError(f'{encoded.name(0)}: none of the images can be decoded')
  return np.asarray(labels, np.int32), corrupt


def _make_entry(
  entry: pathlib.Path,
  encoded: EncodedImages,
  shape: tuple[int, ...],
  skip_corrupt: bool,
) -> None:
  with caches.new_entry(entry) as folder:
    free = shutil.disk_usage(folder).free
    if free < np.prod(shape):
      raise OSError(f'only {free / 2**30:.1f} GiB are free')
    images = np.lib.format.open_memmap(
      folder / 'images.npy', 'w+', np.uint8, shape
    )
    labels, corrupt = _decode_into(images, encoded, skip_corrupt)
    images.flush()
    np.save(folder / 'labels.npy', labels)
    (folder / 'left_out.json').write_text(json.dumps(corrupt))
    _write_checksums(folder, images)


def _write_checksums(folder: pathlib.Path, images: np.ndarray) -> None:
  checksums = {
    name: zlib.crc32((folder / name).read_bytes()) for name in _SMALL
  }
  checksums['images.npy'] = _checksum(images)
  (folder / 'checksums.json').write_text(json.dumps(checksums))


def _checksum(images: np.ndarray) -> int:
  checksum = 0
  for start in range(0, len(images), _CHUNK):
    chunk = np.ascontiguousarray(images[start : start + _CHUNK])
    checksum = zlib.crc32(chunk, checksum)
  return checksum


def _read_entry(
  entry: pathlib.Path, shape: tuple[int, ...], in_memory: bool
) -> tuple[np.ndarray, np.ndarray, list[int]]:
  """Reads decoded images, their labels and the indices of corrupt ones.

  Images that stay on the disk are not compared with their checksum, and older
  entries have none.

  Raises:
    OSError, ValueError, EOFError: if the entry is damaged.
  """
  images = np.load(entry / 'images.npy', mmap_mode='r', allow_pickle=False)
  labels = np.load(entry / 'labels.npy', allow_pickle=False)
  corrupt = json.loads((entry / 'left_out.json').read_text())
  if images.shape != shape or images.dtype != np.uint8:
    raise ValueError('images.npy holds other images')
  if in_memory:
    images = np.array(images)
  if (entry / 'checksums.json').exists():
    expected = files.read_json(entry / 'checksums.json')
    for name in _SMALL:
      if expected.get(name) != zlib.crc32((entry / name).read_bytes()):
        raise ValueError(f'{name} is damaged')
    if in_memory and expected.get('images.npy') != _checksum(images):
      raise ValueError('images.npy is damaged')
  return images, labels, corrupt


def _read_or_make_again(
  entry: pathlib.Path,
  encoded: EncodedImages,
  shape: tuple[int, ...],
  skip_corrupt: bool,
  in_memory: bool,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
  """Reads an entry of the cache; makes it again if it is damaged."""
  try:
    return _read_entry(entry, shape, in_memory)
  except (OSError, ValueError, EOFError) as error:
    print(f'{entry}: damaged ({error}); decoding the images again.')
  shutil.rmtree(entry)
  _make_entry(entry, encoded, shape, skip_corrupt)
  return _read_entry(entry, shape, in_memory)


def load_decoded(
  encoded: EncodedImages,
  image_size: int,
  *,
  skip_corrupt: bool,
  in_memory_bytes: int,
) -> ArraySource:
  """Decodes all images, or loads them from the cache.

  Args:
    encoded: the encoded images.
    image_size: height and width of the result in pixels.
    skip_corrupt: skip corrupt images instead of raising.
    in_memory_bytes: decoded images up to this size are held in memory; larger
      ones are memory-mapped from the cache.

  Raises:
    UserError: naming a corrupt image; if no image remains; or if the cache
      cannot hold images that are too large for memory.
  """
  shape = (len(encoded), image_size, image_size, encoded.channels)
  in_memory = np.prod(shape) <= in_memory_bytes
  name = _digest(encoded, image_size)
  # An entry without corrupt images serves either setting.
  entry = caches.folder('images') / name
  if skip_corrupt and not entry.exists():
    entry = entry.with_name(f'{name}_skipping')
  try:
    if not entry.exists():
      _make_entry(entry, encoded, shape, skip_corrupt)
    images, labels, corrupt = _read_or_make_again(
      entry, encoded, shape, skip_corrupt, in_memory
    )
  except (OSError, ValueError, EOFError) as error:
    if isinstance(error, UserError):
      raise
    if not in_memory:
      raise UserError(
        f'{entry.parent}: cannot store {np.prod(shape) / 2**30:.1f} GiB of '
        f'decoded images ({error}); free some space, or set XDG_CACHE_HOME to '
        'a folder on another disk'
      ) from error
    images = np.empty(shape, np.uint8)
    labels, corrupt = _decode_into(images, encoded, skip_corrupt)
  for index in corrupt:
    name = files.one_line(encoded.name(index))
    print(f'Skipped, cannot be decoded: {name}')
  images = images[: len(labels)]
  return ArraySource(
    examples=images,
    labels=labels,
    num_classes=encoded.num_classes,
    class_names=encoded.class_names,
  )
