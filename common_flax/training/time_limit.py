"""Training for a given time: how many steps fit into it.

The number of steps must be known before the first one, because learning-rate
schedules depend on it. So a short trial run goes first, with throw-away weights
in a throw-away folder. It times the start, the train steps, and what happens
between them: reports, pictures, checkpoints and evaluations. Then the run
begins at step 0 with its own `num_steps`, which config.json holds.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import math
import secrets
import time

from etils import epath
import jax
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import files
from common_flax import output
from common_flax.cli import terminal
from common_flax.distributed import processes
from common_flax.errors import StoppedError
from common_flax.errors import UserError
from common_flax.training.loop import Moment
from common_flax.workdir import layout

Train = Callable[[ConfigDict, epath.Path], int | None]

_MAX_MINUTES = 60 * 24 * 366
_MARGIN = 0.02  # of the time; trials are short, and machines vary
_EXIT_SECONDS = 0.5  # of a process after training

# A trial takes this share of the time within these bounds, and at least one
# cycle of calls, but never more than its largest share.
_SHARE, _MIN_SECONDS, _MAX_SECONDS = 0.02, 1.0, 10.0
_LARGEST_SHARE = 0.1
_MIN_CALLS = 4

# Calls of the train step between reports in a trial. Every 2nd, 3rd and 6th
# report coincides with a picture, a checkpoint and an evaluation.
_UNIT = 10
_CYCLE = 6
# The clock reads at these calls of each unit; what happens at a report, or one
# call after it, falls between the last and the first of them.
_FIRST, _LAST = 2, 9
_MAX_CALLS = 10**6  # that no trial reaches

_COMPILING = '/jax/core/compile/backend_compile_duration'


def choose_steps(
  config: ConfigDict,
  workdir: epath.PathLike,
  max_minutes: float | None,
  default: ConfigDict,
  has_fixed_steps: bool,
  train: Train,
) -> ConfigDict:
  """Replaces `num_steps` by the number of steps that fit into a time.

  A run that has begun keeps its number, with or without `max_minutes`.

  Args:
    config: the run's config, checked by its family.
    workdir: folder of the run.
    max_minutes: minutes from now until training ends; None changes nothing,
      except in the workdir of a run that began with a limit.
    default: the family's default config.
    has_fixed_steps: whether a schedule depends on `num_steps`.
    train: (config, workdir) -> the stopping signal or None; trains a new run.

  Returns:
    The config of the run.

  Raises:
    UserError: if the time is invalid or too short; nothing is written.
    StoppedError: if a signal stops the trial.
  """
  if max_minutes is None:
    return _as_chosen(config, workdir)
  began = time.monotonic()
  _check_minutes(max_minutes)
  if (epath.Path(workdir) / layout.CONFIG).exists():
    num_steps = layout.read_config(workdir, default).num_steps
    print(
      f'--max_minutes: ignored; {workdir} resumes its own run of '
      f'{terminal.counted(num_steps, "step")}.'
    )
    return _with_steps(config, num_steps)
  with processes.together():
    layout.check(workdir, config, default, fixed_steps=False)
  seconds = 60 * max_minutes
  print(f'Timing some steps, to train for {terminal.duration(seconds)}.')
  with _folder_in(workdir) as folder:
    costs = _try(config, seconds, folder, has_fixed_steps, train)
    seconds -= time.monotonic() - began
    num_steps = costs.steps_within(seconds, config)
    (num_steps,) = processes.as_first_says(num_steps)
    _check_enough(num_steps, costs, config, seconds)
  print(
    f'The remaining {terminal.duration(seconds)} are {num_steps:,} steps at '
    f'{num_steps / seconds:,.3g} steps/s; they replace '
    f'config.num_steps={config.num_steps:,}.'
  )
  if processes.is_first():
    layout.write_time_limit(
      workdir, layout.TimeLimit(max_minutes, num_steps, config.num_steps)
    )
  return _with_steps(config, num_steps)


def _check_minutes(max_minutes: float) -> None:
  if not 0 < max_minutes <= _MAX_MINUTES:  # also refuses NaN
    raise UserError(
      f'--max_minutes={max_minutes:g}: must be above 0 and at most '
      f'{_MAX_MINUTES:,}'
    )


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


class _Stopwatch:
  """A hook that times the calls of a trial and ends it.

  Attributes:
    first: when the first step was done.
    last: when the last step was done.
    compiling: seconds of compiling until the first step.
  """

  def __init__(self, seconds: float):
    """Creates the hook.

    Args:
      seconds: time of the run that is to follow.
    """
    least = min(max(_SHARE * seconds, _MIN_SECONDS), _MAX_SECONDS)
    self._enough = min(least, _LARGEST_SHARE * seconds)
    self._too_much = _LARGEST_SHARE * seconds
    self._times: dict[int, float] = {}  # by number of calls
    self.first = self.last = self.compiling = 0.0

  def __call__(self, now: Moment) -> None:
    if now.is_start:
      return
    per_call = now.run.config.steps_per_call
    calls = now.step // per_call
    is_read = calls % _UNIT in (_FIRST, _LAST) or calls in (1, _MIN_CALLS)
    if not is_read and not now.is_last:
      return
    now.wait()
    self.last = time.monotonic()
    self.first = self.first or self.last
    if now.is_last:
      return
    self._times[calls] = self.last
    if processes.as_first_says(self._is_enough(calls)) == [True]:
      now.run.config.num_steps = now.step + per_call  # ends the trial

  def count_compiling(self, event: str, seconds: float, **unused) -> None:
    """Listens to JAX."""
    if event == _COMPILING and not self.first:
      self.compiling += seconds

  def _is_enough(self, calls: int) -> bool:
    took = self.last - self.first
    is_short = calls < _UNIT * _CYCLE + _FIRST and took < self._too_much
    return calls >= _MIN_CALLS and took >= self._enough and not is_short

  def costs(self, began: float, ended: float, config: ConfigDict) -> Costs:
    """The costs of a run like a trial that began and ended at these times."""
    call = self._seconds_per_call()
    extra = dict(self._extras(call))  # of the newest reports of each kind
    report = extra.get(5, extra.get(1, 0.0))
    picture = max(extra.get(4, extra.get(2, report)) - report, 0.0)
    both, all_three = extra.get(3, report), extra.get(_CYCLE)
    checkpoint = max(both - report, 0.0)
    evaluation = 0.0
    if all_three is not None and config.evaluate_every_steps:
      rest = report + picture + checkpoint
      evaluation = max(all_three - rest, 0.0)
    elif all_three is not None:  # the second checkpoint, no longer cold
      checkpoint = max(all_three - report - picture, 0.0)
    return Costs(
      start=self.first - began,
      end=ended - self.last,
      step=call / config.steps_per_call,
      report=report,
      picture=picture,
      checkpoint=checkpoint,
      evaluation=evaluation,
    )

  def _seconds_per_call(self) -> float:
    times, starts = self._times, range(_FIRST, max(self._times), _UNIT)
    length = _LAST - _FIRST
    whole = [t for t in starts if t + length in times]
    if not whole:
      return (times[_MIN_CALLS] - times[_FIRST]) / (_MIN_CALLS - _FIRST)
    spent = sum(times[t + length] - times[t] for t in whole)
    return spent / (length * len(whole))

  def _extras(self, call: float) -> Iterator[tuple[int, float]]:
    """Yields (number in its cycle, seconds beyond the steps) of each report."""
    gap = _UNIT + _FIRST - _LAST
    for calls in range(_UNIT, max(self._times), _UNIT):
      if calls + _FIRST in self._times:
        start = self._times[calls + _FIRST - gap]
        took = self._times[calls + _FIRST] - start
        number = (calls // _UNIT - 1) % _CYCLE + 1
        yield number, max(took - gap * call, 0.0)


def _try(
  config: ConfigDict,
  seconds: float,
  folder: epath.Path,
  has_fixed_steps: bool,
  train: Train,
) -> Costs:
  """Runs a trial and returns the costs of the run itself."""
  watch = _Stopwatch(seconds)
  trial = _trial_config(config, has_fixed_steps)
  jax.monitoring.register_event_duration_secs_listener(watch.count_compiling)
  began = time.monotonic()
  try:
    with output.unheard():
      stopped_by = train(trial, folder, hooks=[watch])
  finally:
    jax.monitoring.unregister_event_duration_listener(watch.count_compiling)
  if stopped_by is not None:
    raise StoppedError(stopped_by)
  costs = watch.costs(began, time.monotonic(), config)
  if has_fixed_steps or jax.config.jax_compilation_cache_dir is None:
    return costs
  # The run finds the trial's programs in the compilation cache.
  return dataclasses.replace(costs, start=costs.start - watch.compiling)


def _trial_config(config: ConfigDict, has_fixed_steps: bool) -> ConfigDict:
  per_call = config.steps_per_call
  num_calls = most = min(_MAX_CALLS, config_lib.MAX_COUNT // (2 * per_call))
  if has_fixed_steps:
    # A new program, which no cache holds: the run's own will be new as well.
    num_calls += secrets.randbelow(most)
    (num_calls,) = processes.as_first_says(num_calls)
  trial = config.copy_and_resolve_references()
  with trial.unlocked():
    trial.num_steps = num_calls * per_call
    trial.log_every_steps = _UNIT * per_call
    trial.sample_every_steps = 2 * _UNIT * per_call
    trial.checkpoint_every_steps = 3 * _UNIT * per_call
    if config.evaluate_every_steps:
      trial.evaluate_every_steps = _CYCLE * _UNIT * per_call
    if 'on_collapse' in trial:  # nothing to judge in so few steps
      trial.on_collapse = 'warn'
  return trial


@contextlib.contextmanager
def _folder_in(workdir: epath.PathLike) -> Iterator[epath.Path]:
  """Yields a new name in a workdir; in the end removes everything made."""
  workdir = epath.Path(workdir)
  (number,) = processes.as_first_says(secrets.randbelow(2**31))
  folder = workdir / f'trial_{number}'
  made = []
  if not files.is_remote(workdir):
    made = [p for p in (workdir, *workdir.parents) if not p.exists()]
  try:
    yield folder
  finally:
    if processes.is_first() and folder.exists():
      folder.rmtree()
      for path in made:
        with contextlib.suppress(OSError):  # another run lives there
          path.rmdir()


def _check_enough(
  num_steps: int, costs: Costs, config: ConfigDict, seconds: float
) -> None:
  least = max(config.log_every_steps, config.steps_per_call)
  if num_steps >= least:
    return
  lacking = costs.start + costs.end + 2 * least * costs.step - seconds
  raise UserError(
    f'--max_minutes: the remaining {terminal.duration(max(seconds, 0.0))} are '
    f'too short for config.log_every_steps={config.log_every_steps} steps; '
    f'give about {math.ceil(max(lacking, 6.0) / 6) / 10:g} minutes more'
  )


def _as_chosen(config: ConfigDict, workdir: epath.PathLike) -> ConfigDict:
  """The config with the steps chosen when its run began, if they were."""
  note = layout.read_time_limit(workdir)
  if note is None or config.num_steps != note.instead_of:
    return config
  print(
    f'{workdir} has {note.num_steps:,} steps, chosen for '
    f'{note.max_minutes:.3g} minutes when it began; to train longer, set '
    'another config.num_steps.'
  )
  return _with_steps(config, note.num_steps)


def _with_steps(config: ConfigDict, num_steps: int) -> ConfigDict:
  config = config.copy_and_resolve_references()
  config.num_steps = num_steps
  return config
