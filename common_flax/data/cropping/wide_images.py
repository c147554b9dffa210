"""Images that reach beyond a size, and their crops at random places.

Dimensions: N images, B batch, H height, W width, C channels.
"""

from collections.abc import Iterable
import dataclasses
import functools

import numpy as np


def random_words(seed: int, size: int, t: int) -> np.ndarray:
  """The words that choose the crops of batch t, uint64 [size].

  A pure function of the seed, the size of the batch and t, like the order of
  the examples; see `common_flax.data.batches`.
  """
  # Seeds are below 2**32, so the order of no epoch has such a key.
  return np.random.Philox(key=[2**32 + seed, t]).random_raw(size)


@dataclasses.dataclass(frozen=True, eq=False)
class WideImages:
  """Images of which one side is that of their crops, and the other as long.

  Attributes:
    pixels: uint8 [total], of one image after the other.
    sizes: int64 [N, 2], height and width of each image.
    example_shape: (H, W, C) of the crops.
  """

  pixels: np.ndarray
  sizes: np.ndarray
  example_shape: tuple[int, int, int]

  @functools.cached_property
  def _ends(self) -> np.ndarray:
    return np.cumsum(self.sizes.prod(axis=1) * self.example_shape[-1])

  @property
  def can_differ(self) -> bool:
    """Whether there is an image of which two crops differ."""
    return bool((self.sizes != self.example_shape[:2]).any())

  def crops(self, indices: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Crops images, each at the place that a word chooses.

    Args:
      indices: int64 [B], of the images.
      words: uint64 [B], uniformly random.

    Returns:
      uint8 [B, H, W, C].
    """
    tall, wide, channels = self.example_shape
    result = np.empty((len(indices), *self.example_shape), np.uint8)
    for i, (index, word) in enumerate(zip(indices, words, strict=True)):
      height, width = self.sizes[index].tolist()
      end = int(self._ends[index])
      image = self.pixels[end - height * width * channels : end]
      image = image.reshape(height, width, channels)
      num_places = height - tall + width - wide + 1
      place = int(word) * num_places >> 64
      top, left = (place, 0) if height > tall else (0, place)
      result[i] = image[top : top + tall, left : left + wide]
    return result


def join(
  images: Iterable[np.ndarray], example_shape: tuple[int, int, int]
) -> WideImages:
  """The images uint8 [height, width, C] in memory."""
  images = list(images)
  return WideImages(
    np.concatenate([image.ravel() for image in images]),
    np.array([image.shape[:2] for image in images]),
    example_shape,
  )
