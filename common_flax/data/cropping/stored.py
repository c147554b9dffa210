"""Wide images in the user's cache."""

from collections.abc import Iterable
import os
import pathlib
import shutil
import zlib

import numpy as np

from common_flax.data import caches
from common_flax.data.cropping.wide_images import WideImages
from common_flax.errors import UserError


def load(
  entry: pathlib.Path,
  images: Iterable[np.ndarray],
  shape: tuple[int, int, int, int],
  in_memory_bytes: int,
) -> WideImages:
  """Reads wide images from the cache, or makes them.

  Args:
    entry: folder in the cache.
    images: the N images uint8 [height, width, C], read if there is no entry.
    shape: (N, H, W, C) of their crops.
    in_memory_bytes: images up to this size are held in memory; larger ones are
      memory-mapped.

  Raises:
    UserError: if the cache cannot hold them.
  """
  try:
    if entry.exists():
      try:
        return _read(entry, shape, in_memory_bytes)
      except (OSError, ValueError, EOFError) as error:
        print(f'{entry}: damaged ({error}); decoding the images again.')
        shutil.rmtree(entry)
    _make(entry, images)
    return _read(entry, shape, in_memory_bytes)
  except (OSError, ValueError, EOFError) as error:
    if isinstance(error, UserError):
      raise
    what = 'the images of dataset.crop=random'
    raise caches.no_room(entry.parent, what, error) from error


def _make(entry: pathlib.Path, images: Iterable[np.ndarray]) -> None:
  sizes, checksum = [], 0
  with caches.new_entry(entry) as folder:
    with open(folder / 'pixels', 'wb') as file:
      for image in images:
        content = np.ascontiguousarray(image)
        file.write(content)
        checksum = zlib.crc32(content, checksum)
        sizes.append(image.shape[:2])
    np.save(folder / 'sizes.npy', np.array(sizes, np.int64))
    (folder / 'checksum').write_text(str(checksum))


def _read(
  entry: pathlib.Path, shape: tuple[int, int, int, int], in_memory_bytes: int
) -> WideImages:
  """Reads an entry; images that stay on the disk are not compared.

  Raises:
    OSError, ValueError, EOFError: if it is damaged.
  """
  sizes = np.load(entry / 'sizes.npy', allow_pickle=False)
  num, *example_shape = shape
  total = os.path.getsize(entry / 'pixels')
  if sizes.shape != (num, 2) or np.any(sizes < example_shape[:2]):
    raise ValueError('sizes.npy holds other images')
  if total != sizes.prod(axis=1).sum() * example_shape[-1]:
    raise ValueError('pixels is truncated')
  pixels = np.memmap(entry / 'pixels', np.uint8, 'r')
  if total <= in_memory_bytes:
    pixels = np.array(pixels)
    if str(zlib.crc32(pixels)) != (entry / 'checksum').read_text():
      raise ValueError('pixels is damaged')
  return WideImages(pixels, sizes, tuple(example_shape))
