"""Applies a network to any number of images, in chunks of a fixed size.

Dimensions: N images, B images per chunk.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from common_flax.progress import track


def in_chunks(
  function: Callable[[np.ndarray], Any],
  images: np.ndarray,
  size: int,
) -> Any:
  """Applies a function to `size` images at a time.

  The last chunk is padded: one compiled program serves any number of images in
  constant memory, and an image's result does not depend on how many others
  there are.

  Args:
    function: images [B, ...] -> a pytree of arrays [B, ...].
    images: [N, ...].
    size: B.

  Returns:
    The pytree with arrays [N, ...].
  """
  parts = []
  # Without images one padded chunk still gives the dtypes and shapes.
  starts = range(0, max(1, len(images)), size)
  for start in track(starts, len(starts), 'Extracting features'):
    chunk = images[start : start + size]
    widths = ((0, size - len(chunk)), *((0, 0) for _ in images.shape[1:]))
    parts.append(jax.device_get(function(np.pad(chunk, widths))))
  return jax.tree.map(lambda *xs: np.concatenate(xs)[: len(images)], *parts)
