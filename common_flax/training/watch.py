"""Hooks that measure the state, judge the metrics and score samples."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax.cli import terminal
from common_flax.config import require
from common_flax.config import require_one_of
from common_flax.data.source import Source
from common_flax.distributed import processes
from common_flax.evaluation import reference_sets
from common_flax.evaluation.protocol import check_sizes
from common_flax.evaluation.protocol import DEFAULT_NEIGHBOURS
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.evaluation.reference_sets import ReferenceSet
from common_flax.training.health import Failure
from common_flax.training.health import Judge
from common_flax.training.loop import Moment
from common_flax.training.loop import State

# (root, state of one run) -> numbers or arrays by name
Measure = Callable[[jax.Array, State], Mapping[str, Any]]


class Watch:
  """Measures the state at each report and judges the metrics so far.

  Attributes:
    judge: judges the metrics; a rollback goes to a checkpoint that it calls
      healthy.
  """

  def __init__(
    self,
    measure: Measure,
    judge: Judge,
    action: str = 'warn',
    max_rollbacks: int = 0,
    field: str = '',
  ):
    """Creates the hook.

    Args:
      measure: (root, state) -> numbers and arrays by name. Arrays also become
        histograms in TensorBoard.
      judge: judges the rows of metrics.jsonl so far.
      action: what follows a printed warning: 'warn' continues, 'stop' stops and
        'rollback' goes back.
      max_rollbacks: maximum rollbacks before stopping.
      field: config field that selects the action, for the message.
    """
    self.judge = judge
    self._measure = measure
    self._action = action
    self._max_rollbacks = max_rollbacks
    self._field = field
    self._has_warned = False

  def __call__(self, now: Moment) -> None:
    if now.is_start:
      self._has_warned = False
    if not now.is_report:
      return
    if now.run.is_first_process:
      now.metrics |= self._numbers(now)
    # Metrics of an interruption depend on its time and are not judged.
    if not now.is_finite or now.step % now.run.config.log_every_steps:
      return
    warning = self._warning(now) if now.run.is_first_process else None
    if self._action == 'warn':
      return
    (is_failing,) = processes.as_first_says(bool(warning))
    if is_failing:
      now.failure = Failure(
        warning or 'the first process found that training is failing.',
        self._action,
        self._max_rollbacks,
        self._field,
      )

  def _numbers(self, now: Moment) -> dict[str, float]:
    measured = jax.device_get(now.run.measure(self._measure, now.state))
    numbers = {}
    for name, value in measured.items():
      if not np.ndim(value):
        numbers[name] = float(value)
        continue
      now.run.record.histograms(now.step, {name: value})
      digits = len(str(value.size - 1))
      # TensorBoard groups names by the part before the slash.
      numbers |= {
        f'{name}/{i:0{digits}}': float(x) for i, x in enumerate(value.flat)
      }
    return numbers

  def _warning(self, now: Moment) -> str | None:
    """The judge's warning, printed when it is new."""
    rows = now.run.regular_rows()
    warning = self.judge([*rows, {'step': now.step, **now.metrics}]).warning
    if warning and not self._has_warned:
      now.say(f'Step {now.step:,}: {warning}')
    self._has_warned = warning is not None
    return warning


class Scoring:
  """Scores samples against real images during training."""

  def __init__(
    self,
    draw: Callable[[jax.Array, State, int], np.ndarray],
    source: Source,
    config: ConfigDict,
  ):
    """Creates the hook.

    Args:
      draw: (root, state, N) -> samples, uint8 [N, H, W, C].
      source: real images as the model sees them.
      config: the run's config; `evaluate_every_steps` (0 for never) and
        `evaluation_*` are used.

    Raises:
      UserError: naming an invalid field.
    """
    self._draw = draw
    self._every = config.evaluate_every_steps
    self._num_samples = config.evaluation_num_samples
    if self._every:
      self._reference = _reference_set(source, config)

  def __call__(self, now: Moment) -> None:
    if not self._every or not now.run.is_first_process:
      return
    if not now.is_multiple_of(self._every) or not now.is_finite:
      return
    samples = self._draw(now.run.root, now.state, self._num_samples)
    scores = self._reference.score(samples).metrics
    numbers = (f'{k} {terminal.number(v)}' for k, v in scores.items())
    now.say(f'Step {now.step:,}: {", ".join(numbers)}')
    now.metrics |= scores


def _reference_set(source: Source, config: ConfigDict) -> ReferenceSet:
  require(
    len(source.example_shape) == 3,
    config,
    'evaluate_every_steps',
    'only images can be scored, and the examples are points; set it to 0',
  )
  choices = (reference_sets.AUTO, *reference_sets.FEATURES)
  require_one_of(config, 'evaluation_features', choices)
  require_one_of(config, 'evaluation_resize', reference_sets.RESIZES)
  protocol = Protocol(
    reference_sets.training_metrics(config.evaluation_metrics),
    DEFAULT_NEIGHBOURS,
  )
  reference = reference_sets.training_reference_set(
    config.dataset,
    source,
    ExtractorSpec(
      config.evaluation_features,
      config.evaluation_inception_weights,
      config.evaluation_resize,
    ),
    protocol,
  )
  check_sizes(
    protocol,
    config.evaluation_num_samples,
    len(reference.real),
    'config.evaluation_metrics',
  )
  return reference
