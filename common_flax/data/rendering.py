"""Renders decoded images as a viewer shows them: opaque, 8 bits, in sRGB.

Pillow's `convert` drops transparency, clips values above 255, and ignores ICC
profiles and the gamma of PNG files.

Dimensions: H height, W width, C channels.
"""

import dataclasses
import functools
import io
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageCms

from common_flax import images

# Drops transparency, which shows the hidden colours, as runs did that started
# before there was a choice.
NO_BACKGROUND = 'none'

_GREY_MODES = ('1', 'L', 'LA', 'F')
_SPACES = {'L': 'GRAY', 'RGB': 'RGB', 'CMYK': 'CMYK', 'LAB': 'Lab'}
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SRGB_GAMMA = 1 / 2.2  # what PNG files call sRGB's curve
_BRADFORD = np.array(
  [
    [0.8951, 0.2664, -0.1614],
    [-0.7502, 1.7135, 0.0367],
    [0.0389, -0.0685, 1.0296],
  ]
)

# TIFF tags.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0
_SIGNED = 2


@dataclasses.dataclass(frozen=True)
class Rendering:
  """How images become opaque, 8 bits deep, and of one shape.

  Attributes:
    background: colour behind transparent pixels, by a name or as '#rrggbb'; or
      NO_BACKGROUND.
    white_level: the value that is white, in images whose type reaches beyond
      it; None for the largest value of the type, and 1 for floats.
    is_whole: whether images of another shape are shown whole, with the
      background beside them, instead of their centre.
  """

  background: str = 'white'
  white_level: float | None = None
  is_whole: bool = False

  @property
  def colour(self) -> tuple[int, int, int] | None:
    """The background's red, green and blue; None to drop transparency."""
    if self.background == NO_BACKGROUND:
      return None
    return images.opaque_colour(self.background)

  def is_grey(self, image: PIL.Image.Image) -> bool:
    """Whether an image is grey once it is rendered."""
    if image.mode not in _GREY_MODES and not image.mode.startswith('I'):
      return False
    colour = self.colour
    is_laid = self.is_whole or image.has_transparency_data
    is_laid = is_laid and colour is not None
    return not is_laid or len({*colour}) == 1

  def white(self, largest: float | None) -> float:
    """The value that is white in a type with this largest value.

    Args:
      largest: None for floats, which have none.
    """
    level = self.white_level
    if largest is None:
      return 1.0 if level is None else level
    return largest if level is None else min(level, largest)


ON_WHITE = Rendering()


class Facts(NamedTuple):
  """What a viewer would not show of an image.

  Attributes:
    depth: of the stored values, such as '16 bits'.
    highest: the largest stored value.
    white: the value that became white.
    is_transparent: whether pixels are transparent.
    has_frames: whether there are more frames than the one that was taken.
    is_small: whether it was enlarged.
    is_padded: whether the background is beside it.
  """

  depth: str
  highest: float
  white: float
  is_transparent: bool
  has_frames: bool = False
  is_small: bool = False
  is_padded: bool = False


def likely_white(highest: float) -> str:
  """The white level of images with this highest value."""
  levels = (1, 255, 1023, 4095, 16383, 65535)
  likely = next((level for level in levels if highest <= level), highest)
  if likely == 255 and highest <= 63:  # not the photograph of a full range
    likely = highest
  return f'{likely:.15g}'


def render(
  image: PIL.Image.Image, deep: np.ndarray | None, rendering: Rendering
) -> tuple[PIL.Image.Image, Facts]:
  """Renders an image.

  Args:
    image: of any mode, loaded and upright.
    deep: uint16 [H, W, C], the values of an image in colour of which Pillow
      reads 8 bits only.
    rendering: how.

  Returns:
    The image as 'L' or 'RGB', and facts about it.
  """
  info, is_grey = image.info, rendering.is_grey(image)
  image, depth, highest, white = _to_8_bits(image, deep, rendering)
  alpha = None
  if image.has_transparency_data:
    mode = 'LA' if image.mode in ('1', 'L', 'LA') else 'RGBA'
    image = image if image.mode == mode else image.convert(mode)
    image, alpha = _without_alpha(image)
    alpha = None if alpha.getextrema()[0] == 255 else alpha
  if image.mode in ('1', 'P'):
    image = image.convert('L' if image.mode == '1' else 'RGB')
  if depth == '8 bits' and white < 255:
    scaled = np.arange(256) * (255 / white)
    table = np.clip(np.round(scaled), 0, 255).astype(np.uint8)
    image = image.point(table.tolist() * len(image.getbands()))
  image = _to_srgb(image, info)
  if alpha is not None and rendering.colour is not None:
    canvas = PIL.Image.new('RGB', image.size, rendering.colour)
    canvas.paste(image.convert('RGB'), mask=alpha)
    image = canvas
  mode = 'L' if is_grey else 'RGB'
  image = image if image.mode == mode else image.convert(mode)
  return image, Facts(depth, highest, white, alpha is not None)


def _without_alpha(
  image: PIL.Image.Image,
) -> tuple[PIL.Image.Image, PIL.Image.Image]:
  alpha = image.getchannel('A')
  if image.mode == 'LA':
    return image.getchannel('L'), alpha
  return PIL.Image.merge('RGB', image.split()[:3]), alpha


def _to_8_bits(
  image: PIL.Image.Image, deep: np.ndarray | None, rendering: Rendering
) -> tuple[PIL.Image.Image, str, float, float]:
  """The image, the depth it had, its highest value, and which was white.

  Of images that have 8 bits, the highest value is not sought: 0.
  """
  transparent = image.info.get('transparency')
  if deep is not None:
    white, mode = rendering.white(65535), image.mode
    num_colours = len(mode.removesuffix('A'))
    colours = deep[..., :num_colours]
    eights = [_quantise(colours, white), deep[..., num_colours:] >> 8]
    if isinstance(transparent, tuple):
      opaque = (colours != np.asarray(transparent)).any(-1, keepdims=True)
      eights[1], mode = 255 * opaque, f'{mode}A'
    joined = np.concatenate([x.astype(np.uint8) for x in eights], -1)
    eight = PIL.Image.frombytes(mode, image.size, joined.tobytes())
    return eight, '16 bits', float(colours.max()), white
  if image.mode != 'F' and not image.mode.startswith('I'):
    return image, '8 bits', 0, rendering.white(255)
  values, bits = _deep_greys(image)
  largest = 2**bits - 1 if bits else None
  white = rendering.white(largest)
  if getattr(image, 'tag_v2', {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO and bits:
    values = largest - values
  grey = PIL.Image.fromarray(_quantise(values, white))
  if isinstance(transparent, int):
    opaque = np.uint8(255) * (values != transparent)
    grey.putalpha(PIL.Image.fromarray(opaque.astype(np.uint8)))
  depth = f'{bits} bits' if bits else 'floating point'
  return grey, depth, float(values.max()), white


def _deep_greys(image: PIL.Image.Image) -> tuple[np.ndarray, int | None]:
  """The values [H, W] of a grey image, at least 0, and their bits.

  Floats have None for bits.
  """
  tags = getattr(image, 'tag_v2', {})
  values = np.asarray(image)
  if image.mode == 'F':
    return np.clip(np.nan_to_num(values, posinf=0, neginf=0), 0, None), None
  bits = tags.get(_BITS, (16,))[0]
  if tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
    bits -= 1
  elif bits == 32:
    values = values.view(np.uint32)
  return np.maximum(values.astype(np.int64), 0), bits


def _quantise(values: np.ndarray, white: float) -> np.ndarray:
  """Maps 0 to 0 and `white` to 255, uint8."""
  if white == 65535:  # what Pillow and libpng do
    return (np.minimum(values, 65535).astype(np.int64) >> 8).astype(np.uint8)
  scaled = np.clip(values.astype(np.float64) * (255 / white), 0, 255)
  return np.round(scaled).astype(np.uint8)


def _to_srgb(image: PIL.Image.Image, info: dict) -> PIL.Image.Image:
  """Converts the colours of an image without alpha to sRGB.

  Args:
    image: the image.
    info: what the file says of its colours.
  """
  profile = info.get('icc_profile')
  if image.mode == 'LAB':
    transform = _transform(None, 'LAB')
    return PIL.ImageCms.applyTransform(image, transform)
  if profile and image.mode in _SPACES:
    transform = _transform(profile, image.mode)
    if transform is None and image.mode == 'L':  # grey by a profile in colour
      transform, image = _transform(profile, 'RGB'), image.convert('RGB')
    if transform is not None:
      return PIL.ImageCms.applyTransform(image, transform)
  elif 'gamma' in info and 'srgb' not in info:
    return _from_gamma(image, info['gamma'], info.get('chromaticity'))
  return image


@functools.lru_cache(maxsize=32)
def _transform(
  profile: bytes | None, mode: str
) -> PIL.ImageCms.ImageCmsTransform | None:
  """The transform to sRGB; None if it changes nothing or cannot be made.

  Args:
    profile: content of an ICC profile; None for the standard one of `mode`.
    mode: of the images.
  """
  cms = PIL.ImageCms
  try:
    if profile is None:
      source = cms.ImageCmsProfile(cms.createProfile(mode))
    else:
      source = cms.ImageCmsProfile(io.BytesIO(profile))
    if source.profile.xcolor_space.strip() != _SPACES[mode]:
      return None
    # Without a cache, several threads may use it.
    transform = cms.buildTransform(
      source, cms.createProfile('sRGB'), mode, 'RGB', flags=cms.Flags.NOCACHE
    )
  except (cms.PyCMSError, OSError, ValueError):
    return None
  if mode in ('L', 'RGB'):
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    mixed = np.stack(np.meshgrid(levels, levels, levels, indexing='ij'), -1)
    probe = PIL.Image.fromarray(mixed.reshape(-1, len(levels), 3)).convert(mode)
    before = np.asarray(probe.convert('RGB')).astype(int)
    after = np.asarray(cms.applyTransform(probe, transform))
    if np.abs(after - before).max() <= 2:
      return None
  return transform


def _from_gamma(
  image: PIL.Image.Image,
  gamma: float,
  chromaticities: tuple[float, ...] | None,
) -> PIL.Image.Image:
  """Converts an image with the PNG chunks gAMA and perhaps cHRM to sRGB.

  As Chromium does, with one exception: a gamma of 1 / 2.2 with the primaries of
  sRGB, as ImageMagick writes it, means sRGB.

  Args:
    image: 'L' or 'RGB'.
    gamma: exponent of the encoding; 1.0 stores light itself.
    chromaticities: x and y of white, red, green and blue; None for sRGB's.
  """
  primaries = _SRGB_PRIMARIES if chromaticities is None else chromaticities
  is_srgb = np.allclose(primaries, _SRGB_PRIMARIES, atol=2e-3)
  if image.mode not in ('L', 'RGB') or not 0.05 < gamma < 20:
    return image
  if is_srgb and abs(gamma - _SRGB_GAMMA) < 0.01:
    return image
  light = (np.arange(256) / 255) ** (1 / gamma)
  if is_srgb or image.mode == 'L':
    return image.point(_encode(light).tolist() * len(image.getbands()))
  try:
    matrix = np.linalg.solve(_to_xyz(_SRGB_PRIMARIES), _to_xyz(primaries))
  except (np.linalg.LinAlgError, ZeroDivisionError):
    return image
  return PIL.Image.fromarray(_encode(light[np.asarray(image)] @ matrix.T))


def _encode(light: np.ndarray) -> np.ndarray:
  """Encodes light in [0, 1] by sRGB's curve (IEC 61966-2-1), uint8."""
  light = np.clip(light, 0, 1)
  curved = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
  values = np.where(light <= 0.0031308, 12.92 * light, curved)
  return np.round(255 * values).astype(np.uint8)


def _to_xyz(chromaticities: tuple[float, ...]) -> np.ndarray:
  """The matrix from red, green and blue to XYZ, adapted to the white of sRGB.

  See http://www.brucelindbloom.com, "RGB/XYZ Matrices" and "Chromatic
  Adaptation".
  """

  def xyz(pairs: tuple[float, ...]) -> np.ndarray:
    return np.array([[x / y, 1, (1 - x - y) / y] for x, y in pairs]).T

  pairs = [*zip(chromaticities[::2], chromaticities[1::2], strict=True)]
  white, primaries = xyz(pairs[:1])[:, 0], xyz(pairs[1:])
  matrix = primaries * np.linalg.solve(primaries, white)
  srgb_white = xyz([_SRGB_PRIMARIES[:2]])[:, 0]
  scales = (_BRADFORD @ srgb_white) / (_BRADFORD @ white)
  return np.linalg.solve(_BRADFORD, scales[:, None] * (_BRADFORD @ matrix))
