"""The embedded data set: real handwritten digits, read without a network.

scikit-learn ships 1,797 digits of the UCI data set (E. Alpaydin, C. Kaynak,
1998): 8x8 pixels, with greys from 0 to 16.
"""

import importlib.util
import pathlib
import re

import numpy as np
import PIL.Image

from common_flax import images as images_lib
from common_flax.data.cropping import wide_images
from common_flax.data.decode import check_grey
from common_flax.data.decode import shaped
from common_flax.data.rendering import ON_WHITE
from common_flax.data.rendering import Rendering
from common_flax.data.source import ArraySource
from common_flax.data.source import Report
from common_flax.data.source import unreadable_split

# The last digits are by other writers.
_SPLITS = {'train': slice(0, 1500), 'test': slice(1500, None)}


def _read() -> tuple[np.ndarray, np.ndarray]:
  """All digits [1797, 8, 8] and their labels, from scikit-learn's file.

  `sklearn.datasets.load_digits` takes a second, to import SciPy's statistics.
  """
  package = pathlib.Path(importlib.util.find_spec('sklearn').origin).parent
  table = np.loadtxt(package / 'datasets/data/digits.csv.gz', delimiter=',')
  return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int32)


def load(
  split: str,
  image_size: images_lib.Size,
  rendering: Rendering = ON_WHITE,
  *,
  is_cropped: bool = False,
) -> ArraySource:
  """The digits, grey on black, resized to image_size.

  Args:
    split: 'train' (1,500) or 'test' (297), or the first N of one of them, such
      as 'train[:500]'.
    image_size: of the result.
    rendering: whether they are shown whole, and on which background.
    is_cropped: whether batches are cropped at random.

  Raises:
    UserError: if there is no such split, or the background is in colour.
  """
  match = re.fullmatch(r'(train|test)(?:\[:([1-9]\d*)\])?', split)
  if not match:
    raise unreadable_split(
      split,
      'digits has parts such as train[:500] of the splits train and test',
    )
  chosen, num = _SPLITS[match[1]], int(match[2]) if match[2] else None
  images, labels = (array[chosen][:num] for array in _read())
  greys = np.round(images * (255 / 16)).astype(np.uint8)
  check_grey(rendering, 1)
  pictures = [PIL.Image.fromarray(grey) for grey in greys]
  resized = [shaped(picture, image_size, rendering) for picture in pictures]
  examples = np.stack([np.asarray(image) for image, _ in resized])[..., None]
  covers = (
    np.asarray(images_lib.resize_to_cover(picture, image_size))[..., None]
    for picture in pictures
  )
  is_padded = any(is_padded for _, is_padded in resized)
  return ArraySource(
    examples=examples,
    labels=labels,
    num_classes=10,
    class_names=tuple('0123456789'),
    report=Report(background=rendering.background if is_padded else None),
    wide=wide_images.join(covers, examples.shape[1:]) if is_cropped else None,
  )
