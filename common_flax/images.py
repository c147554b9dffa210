"""Images as bytes, as inputs and outputs of networks, and as files.

Bytes are uint8 in [0, 255]; "signed" images are floats in [-1, 1], the range of
tanh; "unit" images are floats in [0, 1]. Quantisation rounds to the nearest
byte, so bytes survive a round trip.

Dimensions: N images, H height, W width, C channels.
"""

from collections.abc import Sequence
import io
import math

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageColor

from common_flax import files


def doublings(image_size: int) -> tuple[int, int]:
  """Splits an image side into (start, k): image_size = start * 2**k.

  Raises:
    ValueError: if the side is neither 4 * 2**k nor 7 * 2**k with k >= 1.
  """
  start, count = image_size, 0
  while start % 2 == 0 and start > 4:
    start, count = start // 2, count + 1
  if start not in (4, 7) or count == 0:
    raise ValueError(
      f'image size {image_size} is neither 4 * 2^k nor 7 * 2^k with k >= 1; '
      'use for example 28, 32, 64 or 128'
    )
  return start, count


def centre_pad(images: jax.Array, size: int, value: float) -> jax.Array:
  """Pads square images [B, S, S, C] with a value to [B, size, size, C]."""
  before = (size - images.shape[1]) // 2
  after = size - images.shape[1] - before
  sides = ((0, 0), (before, after), (before, after), (0, 0))
  return jnp.pad(images, sides, constant_values=value)


def centre_crop(images: jax.Array, size: int) -> jax.Array:
  """Cuts the centre [B, size, size, C] out of square images [B, S, S, C]."""
  before = (images.shape[1] - size) // 2
  return images[:, before : before + size, before : before + size]


def to_signed(images: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
  """Scales uint8 [..., H, W, C] to floats in [-1, 1]."""
  return images.astype(dtype) / 127.5 - 1


def from_signed(images: jax.Array) -> jax.Array:
  """Quantises floats [..., H, W, C] in [-1, 1] to uint8, clipping others."""
  return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


def from_unit(images: jax.Array) -> jax.Array:
  """Quantises floats [..., H, W, C] in [0, 1] to uint8, clipping others."""
  return jnp.clip(jnp.round(images * 255), 0, 255).astype(jnp.uint8)


def grid(
  images: np.ndarray, columns: int | None = None, margin: int = 2
) -> np.ndarray:
  """Arranges images in a grid.

  Args:
    images: uint8 [N, H, W, C].
    columns: images per row; by default the square root of N, rounded up.
    margin: pixels between images.

  Returns:
    uint8 [rows * (H + margin) + margin, columns * (W + margin) + margin, C],
    with mid-grey margins and empty cells.
  """
  num, height, width, channels = images.shape
  columns = columns or math.ceil(math.sqrt(num))
  rows = math.ceil(num / columns)
  sheet = np.full(
    (rows, height + margin, columns, width + margin, channels), 128, np.uint8
  )
  for i, image in enumerate(images):
    sheet[i // columns, margin:, i % columns, margin:] = image
  sheet = sheet.reshape(
    rows * (height + margin), columns * (width + margin), channels
  )
  edges = ((0, margin), (0, margin), (0, 0))
  return np.pad(sheet, edges, constant_values=128)


def opaque_colour(name: str) -> tuple[int, int, int] | None:
  """Red, green and blue of a colour as in CSS; None if it is not opaque."""
  try:
    colour = PIL.ImageColor.getrgb(name)
  except ValueError:
    return None
  return colour if len(colour) == 3 else None


def to_pil(image: np.ndarray) -> PIL.Image.Image:
  """Converts uint8 [H, W, C] with C 1 or 3 to a Pillow image."""
  return PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


# Formats of pictures, with the options that lose least.
_FORMATS = {
  '.png': ('PNG', {}),
  '.jpg': ('JPEG', {'quality': 95, 'subsampling': 0}),
  '.jpeg': ('JPEG', {'quality': 95, 'subsampling': 0}),
  '.webp': ('WEBP', {'lossless': True}),
}


def encode(image: np.ndarray, ending: str) -> bytes:
  """Encodes uint8 [H, W, C] with C 1 or 3 as '.png', '.jpg' or '.webp'."""
  name, options = _FORMATS[ending]
  buffer = io.BytesIO()
  to_pil(image).save(buffer, name, **options)
  return buffer.getvalue()


def to_png(image: np.ndarray) -> bytes:
  """Encodes uint8 [H, W, C] with C 1 or 3 as PNG."""
  return encode(image, '.png')


def write_png(path: epath.PathLike, image: np.ndarray) -> None:
  """Writes uint8 [H, W, C] with C 1 or 3 as a PNG file."""
  files.write_bytes(path, to_png(image))


def write_gif(
  path: epath.PathLike, frames: Sequence[PIL.Image.Image], seconds: float
) -> None:
  """Writes an endlessly repeating GIF; one round takes about `seconds`."""
  milliseconds = max(40, round(1000 * seconds / len(frames)))
  durations = [milliseconds] * len(frames)
  durations[-1] = 2000  # pause on the last frame
  write_animation(path, frames, durations, '.gif')


def write_animation(
  path: epath.PathLike,
  frames: Sequence[PIL.Image.Image],
  milliseconds: Sequence[int],
  ending: str,
) -> None:
  """Writes an endlessly repeating '.gif' or, without loss, '.webp'.

  Args:
    path: of the file.
    frames: at least one.
    milliseconds: how long each frame is shown.
    ending: the format.
  """
  name, options = ('GIF', {}) if ending == '.gif' else _FORMATS[ending]
  buffer = io.BytesIO()
  first, *rest = frames
  first.save(
    buffer,
    name,
    save_all=True,
    append_images=rest,
    duration=list(milliseconds),
    loop=0,
    **options,
  )
  files.write_bytes(path, buffer.getvalue())


def crop_and_resize(image: PIL.Image.Image, size: int) -> PIL.Image.Image:
  """Crops the central square of an image and resizes it, antialiased."""
  width, height = image.size
  if (width, height) == (size, size):
    return image
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  return image.resize(
    (size, size),
    PIL.Image.Resampling.BICUBIC,
    box=(left, top, left + side, top + side),
  )
