"""Applies a network to any number of images, in chunks of one size.

Dimensions: N images, B images a chunk.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from common_flax.data.source import Progress
from common_flax.data.source import unseen


def in_chunks(
  function: Callable[[np.ndarray], Any],
  images: np.ndarray,
  size: int,
  progress: Progress = unseen,
) -> Any:
  """Applies a function to images, so many at a time.

  The last chunk is filled up: one program serves any number of images, in the
  same memory, and what it says of an image does not depend on the others.

  Args:
    function: images [B, ...] -> a pytree of arrays [B, ...].
    images: [N, ...].
    size: B.
    progress: shows how far it is, see `load_encoded`.

  Returns:
    The pytree with arrays [N, ...].
  """
  parts = []
  # Without images there is one chunk all the same, for types and shapes.
  starts = range(0, max(1, len(images)), size)
  for start in progress(starts, len(starts), 'Looking at images'):
    chunk = images[start : start + size]
    widths = ((0, size - len(chunk)), *((0, 0) for _ in images.shape[1:]))
    parts.append(jax.device_get(function(np.pad(chunk, widths))))
  return jax.tree.map(lambda *xs: np.concatenate(xs)[: len(images)], *parts)
