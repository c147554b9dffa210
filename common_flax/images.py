"""Images as bytes, as inputs and outputs of networks, and as files.

Bytes are uint8 in [0, 255]; "signed" images are floats in [-1, 1], the range of
tanh; "unit" images are floats in [0, 1]. Quantisation rounds to the nearest
byte, so bytes survive a round trip.

Dimensions: N images, H height, W width, C channels.
"""

from collections.abc import Sequence
import io
import math
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageColor

from common_flax import files

# The size of images in pixels: the side of squares, or (height, width).
Size = int | tuple[int, int]

MAX_SIDE = 2**12
MIN_DOUBLED_SIDE = 8  # of images for networks that double or halve them
_SHORTER_SIDES = range(4, 8)  # of the smallest map of these networks


def sides(size: Size) -> tuple[int, int]:
  """The height and width of a size."""
  return (size, size) if isinstance(size, int) else tuple(size)


def size_fault(size: Any) -> str | None:
  """What is wrong with a size, for a message; None if nothing is."""
  values = size if isinstance(size, tuple) else (size, size)
  if len(values) != 2 or any(type(x) is not int for x in values):
    return 'give the number of pixels of a side, or (HEIGHT,WIDTH)'
  if not 1 <= min(values) <= max(values) <= MAX_SIDE:
    return f'must be 1 to {MAX_SIDE:,} pixels a side'
  return None


def size_text(size: Size) -> str:
  """A size for messages, HEIGHTxWIDTH."""
  height, width = sides(size)
  return f'{height}x{width}'


def doublings(size: Size) -> tuple[tuple[int, int], int]:
  """Splits a size into a map and the number of times that it is doubled.

  Returns:
    ((h, w), k) with height h * 2**k and width w * 2**k, k >= 1, and 4 to 7
    pixels on the shorter side of the map.

  Raises:
    ValueError: if the size cannot be split so.
  """
  height, width = sides(size)
  shorter, count = min(height, width), 0
  while shorter % 2 == 0 and shorter not in _SHORTER_SIDES:
    shorter, count = shorter // 2, count + 1
  step = 2**count
  if shorter not in _SHORTER_SIDES or count == 0 or max(height, width) % step:
    raise ValueError(
      f'{size_text(size)} pixels cannot be made by doubling a map of 4 to 7 '
      'pixels on its shorter side; use for example 28, 32, 64 or 128'
    )
  return (height // step, width // step), count


def grid_size(image_size: Size, chosen: Size | None = None) -> tuple[int, int]:
  """The height and width on which networks that double a map work.

  Args:
    image_size: of the images, which are cropped from it or padded to it.
    chosen: the size on which the networks are to work; None for the smallest
      that `doublings` can split.
  """
  if chosen is not None:
    return sides(chosen)
  height, width = sides(image_size)
  shorter, count = min(height, width), 1
  while -(-shorter // 2**count) > max(_SHORTER_SIDES):
    count += 1
  step, least = 2**count, min(_SHORTER_SIDES)
  return tuple(max(least, -(-side // step)) * step for side in (height, width))


def print_grid_size(image_size: Size) -> None:
  """Prints that networks work on another size than that of the images."""
  size = grid_size(image_size)
  if size != sides(image_size):
    shown = size_text(image_size)
    print(
      f'The networks work on {size_text(size)} pixels: images of {shown} are '
      'padded for them, and cropped from what they draw.'
    )


def centre_pad(images: jax.Array, size: Size, value: float) -> jax.Array:
  """Pads images [B, H, W, C] with a value to a larger size."""
  if images.shape[1:3] == sides(size):
    return images
  extra = [
    large - small
    for large, small in zip(sides(size), images.shape[1:3], strict=True)
  ]
  edges = [(x // 2, x - x // 2) for x in extra]
  return jnp.pad(images, ((0, 0), *edges, (0, 0)), constant_values=value)


def centre_crop(images: jax.Array, size: Size) -> jax.Array:
  """Cuts the centre of a size out of larger images [B, H, W, C]."""
  height, width = sides(size)
  if images.shape[1:3] == (height, width):
    return images
  top = (images.shape[1] - height) // 2
  left = (images.shape[2] - width) // 2
  return images[:, top : top + height, left : left + width]


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


def crop_and_resize(image: PIL.Image.Image, size: Size) -> PIL.Image.Image:
  """Crops the largest centred window of a size's shape; resizes, antialiased.

  Args:
    image: the picture.
    size: of the result. The window has the same ratio of height to width.
  """
  (width, height), (tall, wide) = image.size, sides(size)
  if (width, height) == (wide, tall):
    return image
  window = (min(width, height * wide / tall), min(height, width * tall / wide))
  left, top = (_margin(x - y) for x, y in zip(image.size, window, strict=True))
  return image.resize(
    (wide, tall),
    PIL.Image.Resampling.BICUBIC,
    box=(left, top, left + window[0], top + window[1]),
  )


def _margin(excess: float) -> float:
  """Half of the excess of a side; whole pixels stay whole."""
  return excess // 2 if excess == int(excess) else excess / 2


def resize_to_cover(image: PIL.Image.Image, size: Size) -> PIL.Image.Image:
  """Resizes a picture, antialiased, until a size just fits into it.

  One of its sides is that of the size, and the other at least as long.
  """
  (width, height), (tall, wide) = image.size, sides(size)
  scale = max(wide / width, tall / height)
  return _resized(
    image, (max(wide, round(width * scale)), max(tall, round(height * scale)))
  )


def resize_to_fit(
  image: PIL.Image.Image, size: Size, colour: tuple[int, int, int]
) -> PIL.Image.Image:
  """Resizes a picture, antialiased, until it just fits into a size.

  Args:
    image: a picture, 'L' or 'RGB'.
    size: of the result, in whose middle the picture lies.
    colour: red, green and blue of the rest; 'L' takes the first of them.
  """
  (width, height), (tall, wide) = image.size, sides(size)
  scale = min(wide / width, tall / height)
  short = (max(1, round(width * scale)), max(1, round(height * scale)))
  resized = _resized(image, (min(wide, short[0]), min(tall, short[1])))
  if resized.size == (wide, tall):
    return resized
  canvas = PIL.Image.new(
    image.mode, (wide, tall), colour[0] if image.mode == 'L' else colour
  )
  left, top = (wide - resized.width) // 2, (tall - resized.height) // 2
  canvas.paste(resized, (left, top))
  return canvas


def _resized(image: PIL.Image.Image, shape: tuple[int, int]) -> PIL.Image.Image:
  if image.size == shape:
    return image
  return image.resize(shape, PIL.Image.Resampling.BICUBIC)
