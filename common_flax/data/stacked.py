"""A world of a thousand modes: three grey images stacked into a colour one.

Of ten classes that makes 1,000 modes, which a classifier of one channel can
count (Metz et al. 2017, arXiv:1611.02163; the sizes are PacGAN's, Lin et al.
2018, arXiv:1712.04086, section 4.2).

Dimensions: N stacks, S image side.
"""

import numpy as np

from common_flax.config import UserError
from common_flax.data.source import ArraySource

NUM_CHANNELS = 3
_MAX_BYTES = 2**30  # as all stacks are held in memory

# split -> its number of stacks, and the seed they are drawn with.
_SPLITS = {'train': (128_000, 0), 'test': (26_000, 1)}


def stack(base: ArraySource, name: str, split: str) -> ArraySource:
  """Stacks of three images of a source, drawn at random.

  Args:
    base: grey images with labels.
    name: of the base, for errors.
    split: 'train' (128,000) or 'test' (26,000).

  Returns:
    Images uint8 [N, S, S, 3] with labels from 0 to K^3 - 1, of K classes: the
    class of the first channel counts K^2, that of the second K.

  Raises:
    UserError: if there is no such split, or the source has colours or no
      labels, or the stacks would take too much memory.
  """
  if split not in _SPLITS:
    raise UserError(
      f'config.dataset.split={split!r}: stacked has the splits train and test'
    )
  *_, size, channels = base.example_shape
  if base.num_classes is None or channels != 1:
    raise UserError(
      f'config.dataset.stack_of={name!r}: stacks are of grey images with '
      'labels; take digits or mnist'
    )
  num, seed = _SPLITS[split]
  if num * size**2 * NUM_CHANNELS > _MAX_BYTES:
    raise UserError(
      f'config.dataset.image_size={size}: {num:,} stacks of this size do not '
      'fit into 1 GiB; take 32 or less'
    )
  # The generator whose numbers NumPy promises never to change.
  random = np.random.RandomState(seed)
  indices = random.randint(len(base), size=(num, NUM_CHANNELS))
  images = np.empty((num, size, size, NUM_CHANNELS), np.uint8)
  for channel in range(NUM_CHANNELS):
    images[..., channel] = base.examples[indices[:, channel], :, :, 0]
  return ArraySource(
    examples=images,
    labels=join_labels(base.labels[indices], base.num_classes),
    num_classes=base.num_classes**NUM_CHANNELS,
  )


def join_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
  """The classes of three channels [N, 3] as the label of their stack, [N]."""
  places = num_classes ** np.arange(NUM_CHANNELS)[::-1]
  return (labels @ places).astype(np.int32)
