"""Decodes image files to arrays, and reports the broken ones."""

import io
import pathlib
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps

from common_flax import images


class CorruptImageError(Exception):
  """An image that cannot be decoded; the message is a short reason."""


# Formats found in files with the suffixes of images. Pillow knows more, some of
# which start other programs.
_FORMATS = ('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP')
_MAX_PIXELS = PIL.Image.MAX_IMAGE_PIXELS

# `_open` refuses the images that Pillow would warn of.
warnings.simplefilter('ignore', PIL.Image.DecompressionBombWarning)


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


def _to_8_bits(image: PIL.Image.Image) -> PIL.Image.Image:
  """Scales 16-bit greys to 8 bits; Pillow's convert() would clip them.

  A palette with transparency becomes RGBA first, as convert() would warn of it.
  """
  if image.mode == 'P' and isinstance(image.info.get('transparency'), bytes):
    return image.convert('RGBA')
  if image.mode.startswith('I'):
    pixels = np.asarray(image).astype(np.int64) >> 8
    return PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
  return image


def num_channels(file: pathlib.Path) -> int:
  """Reads from an image file's header whether it is grey (1) or colour (3).

  Raises:
    CorruptImageError: if the header cannot be read.
  """
  try:
    with _open(file) as image:
      mode = image.mode
  except PermissionError:
    raise
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error
  return 1 if mode in ('1', 'L', 'LA') or mode.startswith('I') else 3


def decode(data: bytes, size: int, channels: int) -> np.ndarray:
  """Decodes an image, rotates it upright, crops its centre and resizes it.

  Args:
    data: content of an image file.
    size: height and width of the result in pixels.
    channels: 1 for grey, 3 for colour.

  Returns:
    uint8 [size, size, channels].

  Raises:
    CorruptImageError: if the image cannot be decoded.
  """
  mode = _mode(channels)
  try:
    image = _open(io.BytesIO(data))
    if image.format == 'JPEG':  # decodes at a lower resolution if that suffices
      image.draft(mode, (2 * size, 2 * size))
    image = images.crop_and_resize(_upright(image, mode), size)
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error
  return np.asarray(image).reshape(size, size, channels)


def decode_whole(data: bytes, channels: int) -> np.ndarray:
  """Decodes an image and rotates it upright.

  Args:
    data: content of an image file.
    channels: 1 for grey, 3 for colour.

  Returns:
    uint8 [H, W, channels].

  Raises:
    CorruptImageError: if the image cannot be decoded.
  """
  try:
    image = _upright(_open(io.BytesIO(data)), _mode(channels))
    pixels = np.asarray(image)
  except Exception as error:  # Pillow's plugins raise errors of many types
    raise CorruptImageError(_reason(error)) from error
  return pixels.reshape(*pixels.shape[:2], channels)


def _mode(channels: int) -> str:
  return 'L' if channels == 1 else 'RGB'


def _upright(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
  return _to_8_bits(PIL.ImageOps.exif_transpose(image)).convert(mode)


def _reason(error: Exception) -> str:
  # Pillow's message is the repr of the buffer.
  if isinstance(error, PIL.UnidentifiedImageError):
    return 'not an image'
  return ' '.join(str(error).split()) or type(error).__name__
