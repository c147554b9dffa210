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
from common_flax.errors import UserError


class CorruptImageError(Exception):
  """An image that cannot be decoded; the message is a short reason."""


# Formats found in files with the suffixes of images. Pillow knows more, some of
# which start other programs.
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM')
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


def shaped(
  image: PIL.Image.Image, size: images.Size, rendering: Rendering
) -> tuple[PIL.Image.Image, bool]:
  """Gives an image a size; tells whether the background is beside it."""
  if not rendering.is_whole:
    return images.crop_and_resize(image, size), False
  width, height = image.size
  tall, wide = images.sides(size)
  whole = images.resize_to_fit(image, size, rendering.colour)
  return whole, width * tall != height * wide


def check_grey(rendering: Rendering, channels: int) -> None:
  """Refuses a coloured background beside images of one channel.

  Raises:
    UserError: if there is one.
  """
  if rendering.is_whole and channels == 1 and len({*rendering.colour}) > 1:
    raise UserError(
      f'config.dataset.background={rendering.background!r}: the images are '
      'grey; use black, white or another grey'
    )


def decode_with_facts(
  data: bytes,
  size: images.Size | None,
  channels: int,
  rendering: Rendering = ON_WHITE,
  *,
  is_cover: bool = False,
) -> tuple[np.ndarray, Facts]:
  """Decodes an image, rotates it upright and gives it a size.

  Args:
    data: content of an image file. Of several frames the first is taken.
    size: of the result; None leaves the image as it is.
    channels: 1 for grey, 3 for colour.
    rendering: how it becomes opaque, 8 bits deep, and of this size.
    is_cover: whether the image is resized until the size just fits into it,
      and not cropped.

  Returns:
    uint8 [H, W, channels], and facts about the image.

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
      tall, wide = images.sides(size)
      image.draft(None if has_profile else mode, (2 * wide, 2 * tall))
    # JPEG files have a single frame; those of several photographs are MPO.
    has_frames = image.format != 'JPEG' and getattr(image, 'is_animated', False)
    deep = _deep_colours(image, data)
    upright, facts = render(_upright(image), deep, rendering)
    facts = facts._replace(
      has_frames=has_frames,
      is_small=size is not None and _is_enlarged(upright, size, rendering),
    )
    image = upright if upright.mode == mode else upright.convert(mode)
    if size is not None and is_cover:
      image = images.resize_to_cover(image, size)
    elif size is not None:
      image, is_padded = shaped(image, size, rendering)
      facts = facts._replace(is_padded=is_padded)
    pixels = np.asarray(image)
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error
  pixels = pixels.reshape(*pixels.shape[:2], channels)
  if facts.depth == '8 bits':
    facts = facts._replace(highest=int(pixels.max()) * facts.white / 255)
  return pixels, facts


def decode(
  data: bytes,
  size: images.Size | None,
  channels: int,
  rendering: Rendering = ON_WHITE,
) -> np.ndarray:
  """The pixels of `decode_with_facts`."""
  return decode_with_facts(data, size, channels, rendering)[0]


def _is_enlarged(
  image: PIL.Image.Image, size: images.Size, rendering: Rendering
) -> bool:
  (width, height), (tall, wide) = image.size, images.sides(size)
  is_short = width < wide, height < tall
  return all(is_short) if rendering.is_whole else any(is_short)


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
