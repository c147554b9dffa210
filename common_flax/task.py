"""What the training loop is told: a task of pure functions, and a schedule."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from common_flax.alarms import Judge
from common_flax.alarms import Response
from common_flax.data.batches import Batch
from common_flax.sharding import Step
from common_flax.speed import Speed

State = Any  # a pytree with the fields `step` and `attempt`


@dataclasses.dataclass(frozen=True)
class Task:
  """What a family trains, as functions."""

  init: Callable[[], State]  # the state before the first step, pure
  adopt: Callable[[State], State]  # what a new run takes from elsewhere
  step: Step
  # From a step on; of each batch the share of this process.
  batches: Callable[[int], Iterator[Batch]]
  speed: Callable[[], Speed]  # which it may measure
  draw: Callable[[State], np.ndarray]  # a picture, uint8 [H, W, C]
  measure: Callable[[State], Mapping[str, Any]]  # numbers, arrays; each report
  judge: Judge
  response: Response
  networks: Callable[[State], Mapping[str, Any]]  # parameters by network
  export: Callable[[State], Mapping[str, Any]]  # checkpoint items beside state
  info: Mapping[str, Any]  # JSON that checkpoints carry
  curves: Mapping[str, Sequence[str]]  # panels of curves.png
  headline: Sequence[str]  # numbers that progress shows
  examples: str  # what is trained on: 'images', 'points'
  is_convolutional: bool  # a CPU runs dense networks in other ways
  # Judges samples, which takes a while; None if that is not asked for.
  evaluate: Callable[[State], Mapping[str, float]] | None
  decisive_metric: str  # of `evaluate`: by which the best checkpoint is known


@dataclasses.dataclass(frozen=True)
class Policy:
  """What to do about faults; values as in the config's fields `on_...`."""

  on_nan: str  # 'stop', 'skip', 'rollback' or 'warn'
  max_skips: int  # steps; then it stops
  max_rollbacks: int  # then it stops
  on_save_error: str  # 'stop' or 'warn'


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When to stop, and what to do every so many steps."""

  num_steps: int
  log_every: int
  sample_every: int
  checkpoint_every: int
  evaluate_every: int  # a multiple of log_every and checkpoint_every; 0: never
  keep_checkpoints: int
  steps_per_call: int = 1  # of which the numbers above are multiples
  profile: range | None = None  # steps to trace
