"""Sources of a run: the data that a config names.

Dimensions: N examples, H height, W width, C channels.
"""

from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import terminal
from common_flax.data.source import Source


def load(dataset: ConfigDict, split: str) -> Source:
  """The images that a config's `dataset` names, of one split.

  Raises:
    UserError: naming the field or file that is wrong.
  """
  return data.load_source(
    dataset.name,
    split,
    dataset.image_size,
    data_dir=dataset.data_dir,
    path=dataset.path,
    stack_of=dataset.stack_of,
    skip_corrupt=dataset.skip_corrupt,
    progress=terminal.track,
  )


def base_of(dataset: ConfigDict) -> ConfigDict:
  """The data set whose images the data set 'stacked' stacks."""
  base = dataset.copy_and_resolve_references()
  with base.unlocked():
    base.name = dataset.stack_of
  return base


def first_examples(source: Source, num: int) -> np.ndarray:
  """The first examples of a source, at most `num` of them.

  Returns:
    uint8 [N, H, W, C], or of points float32 [N, 2].
  """
  kind = 'image' if source.dtype == np.uint8 else 'point'
  return np.stack([source[i][kind] for i in range(min(num, len(source)))])
