"""Decodes image files to arrays, and reports the broken ones."""

import io
import pathlib
import sys
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps

from common_flax import images
from common_flax.data.rendering import Facts
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import render
from common_flax.data.rendering import Rendering


class CorruptImageError(Exception):
  """An image that cannot be decoded; the message is a short reason."""


# Formats found in files with the suffixes of images. Pillow knows more, some of
# which start other programs.
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'TIFF')
_MAX_PIXELS = PIL.Image.MAX_IMAGE_PIXELS

# Of values with 16 bits: each byte order, and the other one.
_ORDERS = {'B': 'L', 'L': 'B', 'N': 'B' if sys.byteorder == 'little' else 'L'}

# `_open` refuses the images that Pillow would warn of.
warnings.simplefilter('ignore', PIL.Image.DecompressionBombWarning)
# Odd tags of TIFF files, which do not matter here.
warnings.filterwarnings('ignore', module='PIL.TiffImagePlugin')


def _open(file: pathlib.Path | io.BytesIO) -> PIL.Image.Image:
  image = PIL.Image.open(file, formats=_FORMATS)
  if image.width * image.height > _MAX_PIXELS:
    raise CorruptImageError(
      f'{image.width} x {image.height} pixels, more than {_MAX_PIXELS:,}'
    )
  return image


def open_whole(data: bytes) -> PIL.Image.Image:
  """Decodes the content of an image file to a Pillow image, unchanged.

  Raises:
    CorruptImageError: if the image cannot be decoded.
  """
  try:
    image = _open(io.BytesIO(data))
    image.load()
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error
  return image


def num_channels(
  file: pathlib.Path | io.BytesIO, rendering: Rendering = ON_WHITE
) -> int:
  """Reads from an image file's header whether it is grey (1) or colour (3).

  Raises:
    CorruptImageError: if the header cannot be read.
  """
  try:
    with _open(file) as image:
      return 1 if rendering.is_grey(image) else 3
  except PermissionError:
    raise
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error


def decode_with_facts(
  data: bytes,
  size: int | None,
  channels: int,
  rendering: Rendering = ON_WHITE,
) -> tuple[np.ndarray, Facts]:
  """Decodes an image, rotates it upright, crops its centre and resizes it.

  Args:
    data: content of an image file. Of several frames the first is taken.
    size: height and width of the result in pixels; None leaves the image whole.
    channels: 1 for grey, 3 for colour.
    rendering: how it becomes opaque and 8 bits deep.

  Returns:
    uint8 [size, size, channels], and facts about the image.

  Raises:
    CorruptImageError: if the image cannot be decoded.
  """
  if not data:
    raise CorruptImageError('empty')
  mode = 'L' if channels == 1 else 'RGB'
  try:
    image = _open(io.BytesIO(data))
    # Decodes at a lower resolution if that suffices.
    if size is not None and image.format == 'JPEG':
      has_profile = 'icc_profile' in image.info
      image.draft(None if has_profile else mode, (2 * size, 2 * size))
    # JPEG files have a single frame; those of several photographs are MPO.
    has_frames = image.format != 'JPEG' and getattr(image, 'is_animated', False)
    deep = _deep_colours(image, data)
    upright, facts = render(_upright(image), deep, rendering)
    facts = facts._replace(
      has_frames=has_frames,
      is_small=size is not None and min(upright.size) < size,
    )
    image = upright if upright.mode == mode else upright.convert(mode)
    if size is not None:
      image = images.crop_and_resize(image, size)
    pixels = np.asarray(image)
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error
  pixels = pixels.reshape(*pixels.shape[:2], channels)
  if facts.depth == '8 bits':
    facts = facts._replace(highest=int(pixels.max()) * facts.white / 255)
  return pixels, facts


def decode(
  data: bytes,
  size: int | None,
  channels: int,
  rendering: Rendering = ON_WHITE,
) -> np.ndarray:
  """The pixels of `decode_with_facts`."""
  return decode_with_facts(data, size, channels, rendering)[0]


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
  image.load()  # TIFF files are turned here
  PIL.ImageOps.exif_transpose(image, in_place=True)
  return image


def _deep_colours(image: PIL.Image.Image, data: bytes) -> np.ndarray | None:
  """The values of an image in colour with 16 bits; None for others.

  Pillow reads the high byte of each value. Read in the other byte order, it is
  the low one.

  Args:
    image: opened, but not loaded.
    data: content of its file.

  Returns:
    uint16 [H, W, C], upright.
  """
  planes = []
  for tile in image.tile:
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    mode, _, order = str(arguments[0]).partition(';16')
    if image.mode.startswith('I') or mode != image.mode or order not in _ORDERS:
      return None
    swapped = (f'{mode};16{_ORDERS[order]}', *arguments[1:])
    is_tuple = isinstance(tile.args, tuple)
    planes.append(tile._replace(args=swapped if is_tuple else swapped[0]))
  if not planes:
    return None
  low = _open(io.BytesIO(data))
  low.tile = planes
  high = np.asarray(_upright(_open(io.BytesIO(data)))).astype(np.uint16)
  try:
    values = high << 8 | np.asarray(_upright(low))
  except (OSError, ValueError):  # Pillow does not know the other order
    values = high << 8 | high
  return values


def _reason(error: Exception) -> str:
  # Pillow's message is the repr of the buffer.
  if isinstance(error, PIL.UnidentifiedImageError):
    return 'not an image'
  return ' '.join(str(error).split()) or type(error).__name__
