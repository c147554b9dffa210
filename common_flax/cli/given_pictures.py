"""Pictures of one's own that a user gives to a command with --images.

They become what images of the run's data set are: upright, opaque, 8 bits deep,
cropped and resized.

Dimensions: N pictures, H height, W width, C channels.
"""

import dataclasses
import io
import os
import pathlib

import numpy as np
import PIL.Image

from common_flax import files as files_lib
from common_flax import images as images_lib
from common_flax.data import image_sets
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode_with_facts
from common_flax.data.decode import num_channels
from common_flax.data.own import array_files
from common_flax.data.own import listing
from common_flax.data.rendering import Rendering
from common_flax.data.source import Report
from common_flax.errors import UserError
from common_flax.images import Size
from common_flax.progress import track

_ORIENTATION, _SIDEWAYS = 0x0112, 5  # EXIF: from this value on, turned


def read(
  path: str, image_size: Size, channels: int, rendering: Rendering
) -> tuple[np.ndarray, list[str]]:
  """Reads pictures, and prints what happened to them.

  Args:
    path: an image file, a folder of them with its sub-folders, or an array of
      `images`, uint8 [N, H, W, C], as `sample` writes it.
    image_size: `config.dataset.image_size` of the run.
    channels: 1 for grey, 3 for colour.
    rendering: how they become opaque, 8 bits deep, and of one shape.

  Returns:
    uint8 [N, H, W, C], in the order of their names, and the names.

  Raises:
    UserError: naming --images or the file that cannot be read.
  """
  pictures, are_files = _find(path)
  if not are_files:
    # 8 bits deep already.
    rendering = dataclasses.replace(rendering, white_level=None)
  images, facts, num_resized, num_colour = [], [], 0, 0
  for file, _, content in track(pictures, len(pictures), 'Reading pictures'):
    data = listing.read_file(file) if content is None else content
    try:
      image, found = decode_with_facts(data, image_size, channels, rendering)
    except CorruptImageError as error:
      raise UserError(
        f'--images: {file}: cannot be decoded ({error}); repair or remove it'
      ) from error
    images.append(image)
    facts.append(found)
    num_resized += _size(data) != image.shape[:2]
    num_colour += num_channels(io.BytesIO(data), rendering) > channels
  images = np.stack(images)
  height, width = images.shape[1:3]
  transparent = sum(x.is_transparent for x in facts)
  with_frames = sum(x.has_frames for x in facts)
  shown = f'by dataset.background={rendering.background}'
  size = images_lib.size_text((height, width))
  for number, what in (
    (num_resized, f'resized to {size} pixels'),
    (num_colour, 'in colour, made grey'),
    (transparent, f'with transparency, rendered {shown}'),
    (with_frames, 'with several frames or pages, only the first is taken'),
  ):
    if number:
      print(f'{path}: {number:,} of {len(images):,} pictures {what}.')
  return images, [name for _, name, _ in pictures]


# The file of a picture, its name, and its content unless that is yet to read.
_Picture = tuple[pathlib.Path, str, bytes | None]


def _find(path: str) -> tuple[list[_Picture], bool]:
  """The pictures, and whether they are files."""
  if files_lib.is_remote(path):
    raise UserError(f'--images={path}: give a path on this machine')
  place = pathlib.Path(os.path.expanduser(path))
  if os.path.isdir(place):
    return _of_folder(path, place), True
  if not os.path.exists(place):
    raise UserError(f'--images={path}: there is no such file or folder')
  if place.suffix.lower() in array_files.SUFFIXES:
    return _of_array(place), False
  if place.suffix.lower() in listing.SUFFIXES:
    return [(place, place.name, None)], True
  raise UserError(
    f'--images={path}: is no image; give a folder, or a file that ends in '
    f'{", ".join((*listing.SUFFIXES, *array_files.SUFFIXES))}'
  )


def _of_folder(path: str, place: pathlib.Path) -> list[_Picture]:
  found = listing.list_images(place)
  for line in Report((*found.left_out,)).lines():
    print(f'{path}: {line}')
  if not found.files:
    raise UserError(
      f'--images={path}: contains no images; looked for '
      f'{", ".join(listing.SUFFIXES)} in it and its sub-folders'
    )
  return [(x, str(x.relative_to(place)), None) for x in found.files]


def _of_array(place: pathlib.Path) -> list[_Picture]:
  try:
    images = image_sets.read(str(place)).examples
  except UserError as error:
    raise UserError(f'--images: {error}') from error
  return [
    (place, f'{place.name}[{i}]', images_lib.to_png(image))
    for i, image in enumerate(images)
  ]


def _size(data: bytes) -> tuple[int, int]:
  """Height and width of an image that could be decoded."""
  with PIL.Image.open(io.BytesIO(data)) as image:
    is_turned = image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
    return image.size if is_turned else image.size[::-1]
