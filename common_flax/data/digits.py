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
from common_flax.data.source import ArraySource
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


def load(split: str, image_size: int) -> ArraySource:
  """The digits, grey on black, resized to image_size.

  Args:
    split: 'train' (1,500) or 'test' (297), or the first N of one of them, such
      as 'train[:500]'.
    image_size: height and width in pixels.

  Raises:
    UserError: if there is no such split.
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
  resized = [
    images_lib.crop_and_resize(PIL.Image.fromarray(grey), image_size)
    for grey in greys
  ]
  return ArraySource(
    examples=np.stack([np.asarray(image) for image in resized])[..., None],
    labels=labels,
    num_classes=10,
    class_names=tuple('0123456789'),
  )
