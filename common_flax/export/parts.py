"""What a family hands over to be exported.

Dimensions: N examples, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

# In the description of latents that are not drawn from N(0, 1) or U(-1, 1).
LEARNED = 'a learned prior'


@dataclasses.dataclass(frozen=True)
class Array:
  """An input or output of a network, without the axis of the batch."""

  shape: tuple[int, ...]
  meaning: str  # for the model card: range, layout
  dtype: str = 'float32'


def label_inputs(num_classes: int | None) -> Mapping[str, Array]:
  """The input of classes; none of a network that takes no classes."""
  if num_classes is None:
    return {}
  return {'labels': Array((), f'classes, 0 to {num_classes - 1}', 'int32')}


@dataclasses.dataclass(frozen=True)
class Part:
  """A network at inference.

  `function(weights, *inputs)` is pure, takes a batch of each input and returns
  one array, or a tuple of several.
  """

  function: Callable[..., Any]
  weights: Any  # a pytree of arrays
  inputs: Mapping[str, Array]
  outputs: Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Exportable:
  """The networks of a run, and what its model card says of them."""

  kind: str  # of model, for the card
  config: ConfigDict
  step: int  # of the checkpoint
  seed: int  # of the training
  parts: Mapping[str, Part]
  latents: str  # the distribution of latents
  samples: np.ndarray  # a picture of samples, uint8 [H, W, C]
  class_names: tuple[str, ...] | None = None
  note: str = ''  # a sentence for the card


def flat(weights: Any) -> dict[str, np.ndarray]:
  """The weights by path, such as `params.conv_1.kernel`."""
  leaves = jax.tree_util.tree_leaves_with_path(weights)
  return {
    '.'.join(str(entry.key) for entry in path): np.ascontiguousarray(leaf)
    for path, leaf in leaves
  }
