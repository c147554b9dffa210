"""What a run does when its own numbers say that training has failed.

A family judges a run by the metrics recorded so far, a pure function of them,
so that a run which is resumed comes to the same judgement at the same step.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

Row = Mapping[str, float | None]  # a line of metrics.jsonl


class Verdict(NamedTuple):
  """What the metrics of a run say of it."""

  warning: str | None = None  # what is wrong, and what to try
  is_healthy: bool = True  # not so of a run that may yet become so


Judge = Callable[[Sequence[Row]], Verdict]  # of the rows so far, steps rising

ACTIONS = ('warn', 'stop', 'rollback')


@dataclasses.dataclass(frozen=True)
class Response:
  """What is done about a warning."""

  action: str = 'warn'  # one of ACTIONS; it is said in every case
  max_rollbacks: int = 0  # so often a run goes back; then it stops


WARN = Response()


class TrainingFailedError(RuntimeError):
  """A run was stopped since its numbers say that it has failed."""


class GoBack(NamedTuple):
  """A run asks to be taken up again where it was healthy."""

  step: int | None  # of the checkpoint to go on from; None: from the start
  attempt: int  # to go on with, so that everything is drawn anew


def healthy_step(
  steps: Iterable[int], rows: Sequence[Row], judge: Judge, attempt: int
) -> int | None:
  """The step to go back to, None if it is the start.

  The newest at which the run was healthy; if it failed before, one further back
  for each time, as what looked healthy may have been on its way to failure.

  Args:
    steps: that have a checkpoint.
    rows: of the metrics, steps rising.
    judge: of the family.
    attempt: how often the run went back before.
  """
  healthy = []
  for step in sorted(steps, reverse=True):
    known = [row for row in rows if row['step'] <= step]
    if known and judge(known).is_healthy:
      healthy.append(step)
  return healthy[attempt] if attempt < len(healthy) else None
