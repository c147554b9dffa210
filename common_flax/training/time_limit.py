"""Training for a given time: how many steps fit into it.

The number of steps must be known before the first one, because learning-rate
schedules depend on it. So two short runs go first, with throw-away weights in
throw-away folders. A rehearsal of one call does what a process does only once.
A trial times the start, the train steps, and what happens between them:
reports, pictures, checkpoints and evaluations. Then the run begins at step 0
with its own `num_steps`, which config.json holds.
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

from common_flax import files
from common_flax import output
from common_flax.cli import terminal
from common_flax.distributed import processes
from common_flax.effects import Effects
from common_flax.errors import StoppedError
from common_flax.errors import UserError
from common_flax.training import trial as trial_lib
from common_flax.training.loop import Hook
from common_flax.training.trial import Compiling
from common_flax.training.trial import Costs
from common_flax.training.trial import Stopwatch
from common_flax.workdir import layout

Train = Callable[[ConfigDict, epath.Path], int | None]

_MAX_MINUTES = 60 * 24 * 366


def choose_steps(
  config: ConfigDict,
  workdir: epath.PathLike,
  max_minutes: float | None,
  default: ConfigDict,
  has_fixed_steps: bool,
  train: Train,
  effects: Effects | None = None,
) -> ConfigDict:
  """Returns the config with the number of steps that fit into a time.

  A run that has begun keeps its number, with or without `max_minutes`.

  Args:
    config: the run's config, checked by its family.
    workdir: folder of the run.
    max_minutes: minutes from now until training ends; None changes nothing,
      except in the workdir of a run that began with a limit.
    default: the family's default config.
    has_fixed_steps: whether a schedule depends on `num_steps`.
    train: (config, workdir) -> the stopping signal or None; trains a new run.
    effects: when the family's own fields have an effect.

  Raises:
    UserError: if the time is invalid or too short; nothing is written.
    StoppedError: if a signal stops the trial.
  """
  if max_minutes is None:
    return _as_chosen(config, workdir)
  began = time.monotonic()
  _check_minutes(max_minutes)
  if layout.has_config(workdir):
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
    costs = _try(config, default, seconds, folder, has_fixed_steps, train)
    seconds -= time.monotonic() - began
    num_steps = costs.steps_within(seconds, config)
    (num_steps,) = processes.as_first_says(num_steps)
    _check_enough(num_steps, costs, config, seconds)
  print(
    f'The remaining {terminal.duration(seconds)} are {num_steps:,} steps at '
    f'{num_steps / seconds:,.3g} steps/s; they replace '
    f'config.num_steps={config.num_steps:,}.'
  )
  chosen = _with_steps(config, num_steps)
  with processes.together():
    layout.check(workdir, chosen, default, has_fixed_steps, effects)
  if processes.is_first():
    limit = layout.TimeLimit(max_minutes, num_steps, config.num_steps)
    layout.write_time_limit(workdir, limit)
  return chosen


def _check_minutes(max_minutes: float) -> None:
  if not 0 < max_minutes <= _MAX_MINUTES:  # also refuses NaN
    raise UserError(
      f'--max_minutes={max_minutes:g}: must be above 0 and at most '
      f'{_MAX_MINUTES:,}'
    )


def _try(
  config: ConfigDict,
  default: ConfigDict,
  seconds: float,
  folder: epath.Path,
  has_fixed_steps: bool,
  train: Train,
) -> Costs:
  """Runs a rehearsal and a trial; returns the costs of the run itself."""
  trial = trial_lib.trial_config(config, default, has_fixed_steps)
  # Without a compilation cache, a rehearsal would compile for itself alone.
  has_cache = jax.config.jax_compilation_cache_dir is not None
  first = Compiling()
  if has_cache:
    first = _rehearse(train, trial, folder / 'rehearsal')
  with _listening() as second:
    watch = Stopwatch(seconds, config, second)
    began = time.monotonic()
    _throw_away(train, trial, folder / 'trial', watch)
    costs = watch.costs(began, time.monotonic(), config)
  if not has_fixed_steps or not has_cache:
    return costs
  # The trial found the rehearsal's train step in the cache. The run compiles
  # its own.
  compiling = max(first.longest - second.longest, 0.0)
  return dataclasses.replace(costs, start=costs.start + compiling)


def _rehearse(train: Train, trial: ConfigDict, folder: epath.Path) -> Compiling:
  """Trains for one call; returns what it compiled."""
  with _listening() as compiling:
    _throw_away(train, trial, folder, trial_lib.rehearse)
  return compiling


@contextlib.contextmanager
def _listening() -> Iterator[Compiling]:
  compiling = Compiling()
  jax.monitoring.register_event_duration_secs_listener(compiling)
  try:
    yield compiling
  finally:
    jax.monitoring.unregister_event_duration_listener(compiling)


def _throw_away(
  train: Train, config: ConfigDict, folder: epath.Path, hook: Hook
) -> None:
  """Trains without a word.

  Raises:
    StoppedError: if a signal stops it.
  """
  config = config.copy_and_resolve_references()  # the hook changes it
  with output.unheard():
    stopped_by = train(config, folder, hooks=[hook])
  if stopped_by is not None:
    raise StoppedError(stopped_by)


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
