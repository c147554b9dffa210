"""Verdicts on a run's metrics, and what follows when training has failed.

A judge is a pure function of the metrics recorded so far, so that a resumed run
reaches the same verdict at the same step.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

Row = Mapping[str, float | None]  # a line of metrics.jsonl


class Verdict(NamedTuple):
  """A judgement of a run by its metrics."""

  warning: str | None = None  # what is wrong, and what to try
  is_healthy: bool = True  # also False while a run may still become healthy


Judge = Callable[[Sequence[Row]], Verdict]  # rows so far, ordered by step

ACTIONS = ('warn', 'stop', 'rollback')


class Failure(NamedTuple):
  """Why a run must not continue, and what to do about it."""

  reason: str
  action: str  # 'stop' or 'rollback'
  max_rollbacks: int  # maximum rollbacks before stopping
  field: str  # config field that selects the action


class FailingError(Exception):
  """Raised by the loop when a hook reports a failure."""

  def __init__(self, step: int, failure: Failure):
    super().__init__(f'step {step}: {failure.reason}')
    self.step = step
    self.failure = failure


class NotFiniteError(Exception):
  """Raised by the loop when a metric or parameter is not finite.

  Attributes:
    before: steps completed before the failed call.
    names: names of the metrics that are not finite.
    step: steps completed when the failure was detected.
  """

  def __init__(self, before: int, names: Sequence[str], step: int):
    super().__init__(f'step {before + 1}: {", ".join(names)} not finite')
    self.before = before
    self.names = names
    self.step = step


def healthy_step(
  steps: Iterable[int],
  rows: Sequence[Row],
  judges: Sequence[Judge],
  attempt: int,
) -> int | None:
  """The step of the checkpoint to go back to; None for the start of the run.

  It is the newest checkpoint at which the run was healthy. Each earlier
  rollback moves it one healthy checkpoint further back, because a run that
  looked healthy may already have been failing.

  Args:
    steps: steps that have a checkpoint.
    rows: metrics, ordered by step.
    judges: a run is healthy if all of them say so.
    attempt: number of rollbacks taken before this one.
  """
  healthy = []
  for step in sorted(steps, reverse=True):
    known = [row for row in rows if row['step'] <= step]
    if known and all(judge(known).is_healthy for judge in judges):
      healthy.append(step)
  return healthy[attempt] if attempt < len(healthy) else None
