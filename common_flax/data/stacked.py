"""Stacked images: three grey images as the channels of a colour image.

Ten classes give 1,000 modes, which a classifier of single channels can count
(Metz et al. 2017, arXiv:1611.02163). The sizes follow Lin et al. (2018,
arXiv:1712.04086, section 4.2).

Dimensions: N stacks, H height, W width.
"""

import math

import numpy as np

from common_flax.data.source import ArraySource
from common_flax.errors import UserError

NUM_CHANNELS = 3
_MAX_BYTES = 2**30  # of all stacks, which are held in memory

# split -> number of stacks, seed of their draw.
_SPLITS = {'train': (128_000, 0), 'test': (26_000, 1)}


def stack(base: ArraySource, name: str, split: str) -> ArraySource:
  """Draws stacks of three images at random.

  Args:
    base: grey images with labels of K classes.
    name: name of the base, for errors.
    split: 'train' (128,000 stacks) or 'test' (26,000 stacks).

  Returns:
    Images uint8 [N, H, W, 3]. The label of classes (a, b, c) is
    a * K^2 + b * K + c.

  Raises:
    UserError: if there is no such split, the base is in colour or has no
      labels, or the stacks would need too much memory.
  """
  if split not in _SPLITS:
    raise UserError(
      f'config.dataset.split={split!r}: stacked has the splits train and test'
    )
  *size, channels = base.example_shape
  if base.num_classes is None or channels != 1:
    raise UserError(
      f'config.dataset.stack_of={name!r}: stacks need grey images with '
      'labels; use digits or mnist'
    )
  num, seed = _SPLITS[split]
  if num * math.prod(size) * NUM_CHANNELS > _MAX_BYTES:
    size = size[0] if size[0] == size[1] else tuple(size)
    raise UserError(
      f'config.dataset.image_size={size}: {num:,} stacks of this size '
      'exceed 1 GiB; use 32 or less'
    )
  # NumPy promises never to change the numbers of this generator.
  random = np.random.RandomState(seed)
  indices = random.randint(len(base), size=(num, NUM_CHANNELS))
  images = np.empty((num, *size, NUM_CHANNELS), np.uint8)
  for channel in range(NUM_CHANNELS):
    images[..., channel] = base.examples[indices[:, channel], :, :, 0]
  return ArraySource(
    examples=images,
    labels=join_labels(base.labels[indices], base.num_classes),
    num_classes=base.num_classes**NUM_CHANNELS,
    report=base.report,
    fingerprint=base.fingerprint,
  )


def join_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """The labels [N] of stacks whose channels have classes [N, 3]."""
  places = num_classes ** np.arange(NUM_CHANNELS)[::-1]
  return (labels @ places).astype(np.int32)
