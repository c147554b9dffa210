"""Groups of latents, and the sides of images and features they live on.

Dimensions: B batch, S side of a scale, W its width, C channels of its latents,
H height, F features, Z number of latents.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import math
from typing import Any
from typing import NamedTuple

import jax

from common_flax import images
from common_flax.config import MAX_FEATURES

_MAX_GROUPS = 100  # each takes seconds to compile


class Scale(NamedTuple):
  """Groups of latents of one side.

  Attributes:
    side: S of the latents and of the features.
    width: W, the number of features.
    num_groups: number of groups.
    channels: C of each group; 0 for layers without latents.
  """

  side: int
  width: int
  num_groups: int
  channels: int


def fault(groups: Any, image_size: int | tuple[int, int]) -> str | None:
  """What is wrong with `config.model.groups` for images of a size, if anything.

  Args:
    groups: the field's value.
    image_size: side of square images, or (height, width).
  """
  if not groups or not all(_is_scale(each) for each in groups):
    return (
      'must be scales (side, width, number of groups, channels), each a '
      'positive integer and the width even, such as ((1, 64, 2, 16), '
      '(7, 32, 2, 8)); channels may be 0, for layers without latents'
    )
  height, width = images.sides(image_size)
  if height != width:
    return 'needs square images; set dataset.image_size to one number'
  sides = [side for side, *_ in groups] + [height]
  for small, large in itertools.pairwise(sides):
    if large % small or large == small:
      return (
        f'side {small} must be a proper divisor of {large}; name coarse scales '
        f'first, and divide the image size {height}'
      )
  num_groups = sum(each[2] for each in groups)
  if num_groups > _MAX_GROUPS:
    return f'has {num_groups:,} groups; at most {_MAX_GROUPS} can be compiled'
  count = num_latents([Scale(*each) for each in groups])
  if not 1 <= count <= MAX_FEATURES:
    return f'has {count:,} latents; it must be 1 to {MAX_FEATURES:,}'
  return None


def _is_scale(value: Any) -> bool:
  return (
    isinstance(value, tuple)
    and len(value) == len(Scale._fields)
    and all(isinstance(n, int) and n <= MAX_FEATURES for n in value)
    and min(value[:3]) >= 1
    and value[3] >= 0
    and value[1] % 2 == 0
  )


def group_shapes(scales: Sequence[Scale]) -> tuple[tuple[int, int, int], ...]:
  """The shapes (S, S, C) of the groups of latents, the top one first."""
  return tuple(
    (scale.side, scale.side, scale.channels)
    for scale in scales
    for _ in range(scale.num_groups)
  )


def num_latents(scales: Sequence[Scale]) -> int:
  """Z, the number of values of all groups."""
  return sum(map(math.prod, group_shapes(scales)))


def scale_of_groups(scales: Sequence[Scale]) -> tuple[int, ...]:
  """The number of the scale of each group."""
  return tuple(
    number for number, each in enumerate(scales) for _ in range(each.num_groups)
  )


def split(latents: jax.Array, scales: Sequence[Scale]) -> Iterator[jax.Array]:
  """Yields the groups [B, S, S, C] of latents [B, Z]."""
  start = 0
  for shape in group_shapes(scales):
    size = math.prod(shape)
    group = jax.lax.slice_in_dim(latents, start, start + size, axis=1)
    yield group.reshape(latents.shape[0], *shape)
    start += size


def to_depth(x: jax.Array, side: int) -> jax.Array:
  """[B, H, H, F] -> [B, side, side, F (H / side)²], blocks of pixels."""
  batch, height, _, features = x.shape
  block = height // side
  x = x.reshape(batch, side, block, side, block, features)
  return x.swapaxes(2, 3).reshape(batch, side, side, -1)


def to_space(x: jax.Array, side: int) -> jax.Array:
  """The inverse of `to_depth`: [B, S, S, F] to [B, side, side, F (S/side)²]."""
  batch, start, _, depth = x.shape
  block = side // start
  x = x.reshape(batch, start, start, block, block, depth // block**2)
  return x.swapaxes(2, 3).reshape(batch, side, side, -1)
