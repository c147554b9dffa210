"""Pictures that come from a browser: nothing about them is trusted."""

import base64
import binascii

import numpy as np

from common_flax import images as images_lib
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import decode_with_facts
from common_flax.data.rendering import Rendering
from common_flax.errors import UserError

MAX_BYTES = 16 * 2**20
_PREFIX = 'data:image/png;base64,'


def decode(
  data: bytes, shape: tuple[int, int, int], rendering: Rendering
) -> np.ndarray:
  """Decodes the content of an image file as an image of a run.

  Args:
    data: of the file.
    shape: [H, W, C] of the run's images.
    rendering: how it becomes opaque, 8 bits deep, and of this shape.

  Returns:
    uint8 [H, W, C].

  Raises:
    UserError: a sentence for whoever sent it.
  """
  if not data:
    raise UserError('The file is empty; choose a picture.')
  if len(data) > MAX_BYTES:
    raise UserError(
      f'The file has more than {MAX_BYTES // 2**20} MB; choose a smaller one.'
    )
  try:
    image, _ = decode_with_facts(data, tuple(shape[:2]), shape[2], rendering)
  except CorruptImageError as error:
    raise UserError(
      f'The file cannot be read as a picture ({error}); use PNG, JPEG or WebP.'
    ) from error
  return image


def decode_drawing(
  url: object, shape: tuple[int, int, int], rendering: Rendering
) -> np.ndarray:
  """Decodes what was drawn in the browser, a PNG as a data URL.

  Raises:
    UserError: if it is anything else.
  """
  if not isinstance(url, str) or not url.startswith(_PREFIX):
    raise UserError('The drawing did not arrive; draw it again.')
  try:
    data = base64.b64decode(url.removeprefix(_PREFIX), validate=True)
  except (binascii.Error, ValueError) as error:
    raise UserError('The drawing did not arrive; draw it again.') from error
  return decode(data, shape, rendering)


def to_url(image: np.ndarray) -> str:
  """A data URL of uint8 [H, W, C] with C 1 or 3."""
  data = images_lib.to_png(np.asarray(image))
  return _PREFIX + base64.b64encode(data).decode()
