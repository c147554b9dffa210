"""A family of models, as what the training of every one of them asks for."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import sharding
from common_flax.alarms import Judge
from common_flax.alarms import Response
from common_flax.alarms import WARN
from common_flax.data.source import Source

Model = Any  # a frozen dataclass of all that is static
State = Any  # a pytree of all that changes, with the field `step`
Shape = tuple[int, ...]  # of an example: (H, W, C), or (2,)


@dataclasses.dataclass(frozen=True)
class Parts:
  """What one training consists of beside the things of every run."""

  step: sharding.Step
  batches_per_step: int
  draw: Callable[[jax.Array, State], np.ndarray]  # (root, state) -> picture
  # See task.Task for all below.
  networks: Callable[[State], Mapping[str, Any]]
  export: Callable[[State], Mapping[str, Any]]
  curves: Mapping[str, Sequence[str]]
  headline: Sequence[str]
  measure: Callable[[jax.Array, State], Mapping[str, Any]]  # root, state
  judge: Judge
  response: Response = WARN
  is_convolutional: bool = True
  with_labels: bool = False  # batches are Labelled
  # (root, state, N) -> uint8 [N, H, W, C], to be judged; None of points
  samples: Callable[[jax.Array, State, int], np.ndarray] | None = None
  as_seen: Callable[[Source], Source] = lambda source: source  # by the model
  # Bytes of what a step holds at once for a whole batch, by the fields that
  # make it large.
  held: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Family:
  """A family of models, as functions."""

  default_config: Callable[[], ConfigDict]
  check_config: Callable[[ConfigDict], None]  # raises a UserError
  has_fixed_steps: Callable[[ConfigDict], bool]  # a schedule needs num_steps
  create: Callable[[ConfigDict, Shape, int | None], Model]  # None: no labels
  init_state: Callable[[Model, jax.Array], State]  # of a root key
  weights: Callable[[State], Any]  # all that a new run may take over
  with_weights: Callable[[State, Any], State]
  parts: Callable[[ConfigDict, Model, Source], Parts]
  prepare_source: Callable[[ConfigDict, Source], Source] = (
    lambda config, source: source
  )
  num_seeds: Callable[[ConfigDict], int] = lambda config: 1  # trained at once
