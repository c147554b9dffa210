"""A short run with throw-away weights, which times the parts of a run.

It writes reports, pictures and checkpoints so often that each is timed a few
times. A run that does all of them within a few calls is timed as it is.
"""

import collections
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import math
import secrets
import statistics
import time

from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax.distributed import processes
from common_flax.training.loop import Moment

_MARGIN = 0.02  # of the time; trials are short, and machines vary
_EXIT_SECONDS = 0.5  # of a process after training

# A trial takes this share of the time within these bounds, and at least some
# cycles of calls, but never more than its largest share.
_SHARE, _MIN_SECONDS, _MAX_SECONDS = 0.04, 1.0, 10.0
_LARGEST_SHARE = 0.1
_MIN_CALLS = 4
_MAX_CALLS = 10**6  # that no trial reaches

# Calls of the train step between reports in a trial. Every 2nd, 3rd and 6th
# report coincides with a picture, a checkpoint and an evaluation.
_UNIT = 10
_CYCLE = 6
# The clock reads at these calls of each unit; what happens at a report, or one
# call after it, falls between the last and the first of them.
_FIRST, _LAST = 2, 9
# Cycles of a run that is timed as it is.
_MIN_OWN_CYCLES = 8

_COMPILING = '/jax/core/compile/backend_compile_duration'


@dataclasses.dataclass(frozen=True)
class Costs:
  """Seconds of the parts of a run."""

  start: float  # until the first step is done
  end: float  # from the last step on
  step: float
  report: float = 0.0
  picture: float = 0.0
  checkpoint: float = 0.0
  evaluation: float = 0.0

  def steps_within(self, seconds: float, config: ConfigDict) -> int:
    """The largest number of steps that end in time; 0 if none do.

    Args:
      seconds: time of the whole run.
      config: the run's config; its intervals and `steps_per_call` are used.
    """
    per_step = (
      self.step
      + self.report / config.log_every_steps
      + self.picture / config.sample_every_steps
      + self.checkpoint / config.checkpoint_every_steps
    )
    if config.evaluate_every_steps:
      per_step += self.evaluation / config.evaluate_every_steps
    left = (1 - _MARGIN) * seconds - self.start - self.end - _EXIT_SECONDS
    calls = math.floor(left / per_step / config.steps_per_call)
    most = config_lib.MAX_COUNT // config.steps_per_call
    return min(max(calls, 0), most) * config.steps_per_call


class Compiling:
  """Listens to JAX for the longest compilation, which is the train step's."""

  def __init__(self):
    self.longest = 0.0
    self.is_over = False

  def __call__(self, event: str, seconds: float, **unused: object) -> None:
    if event == _COMPILING and not self.is_over:
      self.longest = max(self.longest, seconds)


def rehearse(now: Moment) -> None:
  """A hook that ends a run after its first call.

  Whatever a process does once, such as importing and compiling, is then done.
  """
  if now.is_start:
    now.run.config.num_steps = now.run.config.steps_per_call


class Stopwatch:
  """A hook that times the calls of a trial and ends it."""

  def __init__(self, seconds: float, config: ConfigDict, compiling: Compiling):
    """Creates the hook.

    Args:
      seconds: time of the run that is to follow.
      config: the config of the run that is to follow.
      compiling: ends with the first call.
    """
    least = min(max(_SHARE * seconds, _MIN_SECONDS), _MAX_SECONDS)
    self._enough = min(least, _LARGEST_SHARE * seconds)
    self._too_much = _LARGEST_SHARE * seconds
    self._own_cycle = own_cycle(config)
    self._least_calls = _UNIT * _CYCLE + _FIRST
    if self._own_cycle:
      self._least_calls = _MIN_OWN_CYCLES * self._own_cycle
    self._compiling = compiling
    self._times: dict[int, float] = {}  # by number of calls
    self._last = 0.0  # when the last step was done

  def __call__(self, now: Moment) -> None:
    if now.is_start:
      return
    self._compiling.is_over = True
    per_call = now.run.config.steps_per_call
    calls = now.step // per_call
    if not self._is_read(calls) and not now.is_last:
      return
    now.wait()
    self._last = time.monotonic()
    if now.is_last:
      return
    self._times[calls] = self._last
    if processes.as_first_says(self._is_enough(calls)) == [True]:
      now.run.config.num_steps = now.step + per_call  # ends the trial

  def _is_read(self, calls: int) -> bool:
    if calls in (_FIRST, _MIN_CALLS):
      return True
    if self._own_cycle:
      return calls % self._own_cycle == 0
    return calls % _UNIT in (_FIRST, _LAST)

  def _is_enough(self, calls: int) -> bool:
    took = self._last - self._times.get(_FIRST, self._last)
    is_short = calls < self._least_calls and took < self._too_much
    return calls >= _MIN_CALLS and took >= self._enough and not is_short

  def costs(self, began: float, ended: float, config: ConfigDict) -> Costs:
    """The costs of a run like a trial that began and ended at these times."""
    call = self._seconds_per_call()
    # The first picture is drawn after the first call, so the start ends with
    # the second.
    start = self._times[_FIRST] - call * (_FIRST - 1) - began
    costs = Costs(start, ended - self._last, call / config.steps_per_call)
    if self._own_cycle:
      return costs  # those of a call contain all others
    extras = collections.defaultdict(list)  # by number of the report
    for number, seconds in self._extras(call):
      extras[number].append(seconds)
    report = _typical(extras[1] + extras[5])
    picture = _typical([x - report for x in extras[2] + extras[4]])
    checkpoints = [x - report for x in extras[3]]
    rest = [x - report - picture for x in extras[_CYCLE]]
    evaluation = 0.0
    if config.evaluate_every_steps:
      evaluation = _typical([x - _typical(checkpoints) for x in rest])
    else:
      checkpoints += rest
    return dataclasses.replace(
      costs,
      report=report,
      picture=picture,
      checkpoint=_typical(checkpoints),
      evaluation=evaluation,
    )

  def _seconds_per_call(self) -> float:
    times = self._times
    length = self._own_cycle or _LAST - _FIRST
    whole = [
      (times[t + length] - times[t]) / length
      for t in times
      if t + length in times and not (self._own_cycle and t % length)
    ]
    if not whole:
      return (times[_MIN_CALLS] - times[_FIRST]) / (_MIN_CALLS - _FIRST)
    # The first ones warm up. Curves, drawn once a minute, disturb another.
    return statistics.median(whole[1:] or whole)

  def _extras(self, call: float) -> Iterator[tuple[int, float]]:
    """Yields (number in its cycle, seconds beyond the steps) of each report."""
    gap = _UNIT + _FIRST - _LAST
    for calls in range(_UNIT, max(self._times), _UNIT):
      if calls + _FIRST in self._times:
        start = self._times[calls + _FIRST - gap]
        took = self._times[calls + _FIRST] - start
        number = (calls // _UNIT - 1) % _CYCLE + 1
        yield number, max(took - gap * call, 0.0)


def _typical(seconds: Sequence[float]) -> float:
  """The median, of two the lower one; 0 if there are none."""
  return max(statistics.median_low(seconds), 0.0) if seconds else 0.0


def own_cycle(config: ConfigDict) -> int:
  """The calls after which everything between calls recurs; 0 if too many."""
  intervals = [
    config.log_every_steps,
    config.sample_every_steps,
    config.checkpoint_every_steps,
  ]
  if config.evaluate_every_steps:
    intervals.append(config.evaluate_every_steps)
  calls = math.lcm(*intervals) // config.steps_per_call
  return calls if calls <= _UNIT * _CYCLE else 0


def trial_config(
  config: ConfigDict, default: ConfigDict, has_fixed_steps: bool
) -> ConfigDict:
  """The config of a trial.

  Args:
    config: that of the run that is to follow.
    default: the family's default config.
    has_fixed_steps: whether a schedule depends on `num_steps`.
  """
  per_call = config.steps_per_call
  num_calls = most = min(_MAX_CALLS, config_lib.MAX_COUNT // (2 * per_call))
  if has_fixed_steps:
    # A new program, which no cache holds: the run's own will be new as well.
    num_calls += secrets.randbelow(most)
    (num_calls,) = processes.as_first_says(num_calls)
  cycle = own_cycle(config)
  if cycle:  # a multiple of each interval
    num_calls = math.ceil(num_calls / cycle) * cycle
  trial = config.copy_and_resolve_references()
  with trial.unlocked():
    trial.num_steps = num_calls * per_call
    if not cycle:
      trial.log_every_steps = _UNIT * per_call
      trial.sample_every_steps = 2 * _UNIT * per_call
      trial.checkpoint_every_steps = 3 * _UNIT * per_call
      if config.evaluate_every_steps:
        trial.evaluate_every_steps = _CYCLE * _UNIT * per_call
    kept = (name for name in trial.trackers if name == config_lib.TENSORBOARD)
    trial.trackers = tuple(kept)  # services would show the trial as a run
    if 'on_collapse' in trial:  # nothing to judge in so few steps
      trial.on_collapse = 'warn'
      trial.on_collapse_max_rollbacks = default.on_collapse_max_rollbacks
  return trial
