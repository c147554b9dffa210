"""Hooks that a training run calls between its steps.

A hook is a callable that takes a `Moment`; the loop calls it once before the
first step and after every call of the step. Any function will do:

  def print_metrics(now):
    if now.is_report:
      print(now.step, now.metrics)

Hooks are called in the order in which a family lists them. `Metrics` writes the
numbers that the hooks before it add to `now.metrics`.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import images as images_lib
from common_flax import output
from common_flax.cli import terminal
from common_flax.distributed import processes
from common_flax.errors import TrainingFailedError
from common_flax.evaluation import selection
from common_flax.report import page
from common_flax.training.loop import Moment
from common_flax.training.loop import State
from common_flax.workdir import checkpoints as checkpoints_lib
from common_flax.workdir import provenance
from common_flax.workdir.checkpoints import STATE

_CURVES_SECONDS = 60  # between two drawings, each 0.2 s of one core


@jax.jit
def _copy(state: State) -> State:
  return jax.tree.map(jnp.copy, state)


class Profile:
  """Traces some steps for TensorBoard and Perfetto."""

  def __init__(self, steps: range | None):
    """Creates the hook.

    Args:
      steps: the steps to trace; None traces nothing.
    """
    self._steps = steps
    self._trace: contextlib.ExitStack | None = None

  def __call__(self, now: Moment) -> None:
    if self._steps is None or not now.run.is_first_process:
      return
    if now.is_start and self._steps.stop <= now.step:
      now.say(
        f'Nothing is traced: steps {self._steps.start:,} to '
        f'{self._steps.stop - 1:,} are already done.'
      )
    if now.is_finished and now.step <= self._steps.start:
      now.say(f'Nothing is traced: the run ended at step {now.step:,}.')
    stop = now.step + now.run.config.steps_per_call  # end of the next call
    is_inside = now.step < self._steps.stop and self._steps.start < stop
    is_inside = is_inside and not now.is_last
    if is_inside and self._trace is None:
      now.wait()
      self._trace = contextlib.ExitStack()
      self._trace.callback(now.say, f'Traced from step {now.step}.')
      self._trace.enter_context(now.run.record.trace())
      now.run.at_exit(self.close)
    elif not is_inside and self._trace is not None:
      now.wait()
      self.close()

  def close(self) -> None:
    """Ends the trace, if there is one."""
    if self._trace is not None:
      self._trace.close()
      self._trace = None


class Metrics:
  """Writes the metrics and shows the most important ones."""

  def __init__(self, headline: Sequence[str]):
    """Creates the hook.

    Args:
      headline: metrics that the progress line shows.
    """
    self._headline = headline

  def __call__(self, now: Moment) -> None:
    if not now.is_report or not now.run.is_first_process:
      return
    shown = [
      f'{name} {terminal.number(now.metrics[name])}' for name in self._headline
    ]
    if now.seconds_per_step:
      now.wait()
      rates = now.run.rates(now.seconds_per_step)
      now.metrics |= rates
      left = (now.run.config.num_steps - now.step) * now.seconds_per_step
      speed = rates['images_per_second']
      shown.append(f'{speed:,.0f} {now.run.kind_of_examples}/s')
      shown.append(f'{terminal.duration(left)} left')
    with now.writing('the metrics'):
      now.run.record.scalars(now.step, now.metrics)
    now.run.progress.report(now.step, '  '.join(shown))


class Curves:
  """Plots metrics over steps in `curves.png`.

  Attributes:
    panels: panel title -> names of the metrics drawn in it.
  """

  def __init__(self, panels: Mapping[str, Sequence[str]], every: int):
    """Creates the hook.

    Args:
      panels: panel title -> names of the metrics drawn in it.
      every: interval of steps at which the curves are redrawn, unless they
        were drawn less than a minute ago. The end of a run always draws them.
    """
    self.panels = panels
    self._every = every
    self._drawn_at = -math.inf
    self._is_due = False

  def __call__(self, now: Moment) -> None:
    if not now.run.is_first_process or not now.is_finite:
      return
    if now.is_start:
      self._drawn_at, self._is_due = -math.inf, False
      return
    if now.is_finished or now.failure:
      self._draw(now)
    elif self._is_due:
      self._is_due = False
      if time.monotonic() - self._drawn_at > _CURVES_SECONDS:
        self._draw(now)
    # Drawn one call later, so as not to slow down a checkpoint of this step.
    self._is_due = now.is_multiple_of(self._every)

  def _draw(self, now: Moment) -> None:
    self._drawn_at = time.monotonic()
    with now.writing('curves.png'):
      now.run.record.curves(self.panels)


class Pictures:
  """Saves pictures of the state, and an animation of all of them."""

  def __init__(
    self, draw: Callable[[jax.Array, State], np.ndarray], every: int
  ):
    """Creates the hook.

    Args:
      draw: (root, state of one run) -> picture, uint8 [H, W, C].
      every: steps between two pictures.
    """
    self._draw = draw
    self._every = every
    self._initial: State | None = None

  def __call__(self, now: Moment) -> None:
    if not now.run.is_first_process:
      return
    if now.is_start:
      # Drawn after the first step, so that the step need not wait for it.
      self._initial = _copy(now.state) if now.step == 0 else None
      return
    if self._initial is not None:
      now.wait()
      self._keep(now, 0, self._initial)
      self._initial = None
    if not now.is_finite:
      return
    if now.failure or now.is_finished or now.is_multiple_of(self._every):
      self._keep(now, now.step, now.state)
    if now.is_finished:
      with now.writing('samples.gif'):
        now.run.record.gif()

  def _keep(self, now: Moment, step: int, state: State) -> None:
    pictures = [self._draw(*each) for each in now.run.members(state)]
    picture = pictures[0]
    if len(pictures) > 1:
      picture = images_lib.grid(np.stack(pictures))
    with now.writing('the picture'):
      now.run.record.picture(step, picture)
    now.run.progress.picture(step, picture)


class Checkpoints:
  """Saves the state at regular steps and at the last step."""

  def __init__(
    self,
    export: Callable[[State], Mapping[str, Any]],
    config: ConfigDict,
  ):
    """Creates the hook.

    Args:
      export: state -> checkpoint items to save beside the whole state, such as
        the weights that sampling reads.
      config: the run's config. `checkpoint_every_steps` is used, and the first
        of `evaluation_metrics` selects the best checkpoint, which is kept.
    """
    self._export = export
    self._every = config.checkpoint_every_steps
    self._best_by = config.evaluation_metrics[0]
    self._unsaved: int | None = None  # the step not known to be saved
    self._is_writing = False

  def __call__(self, now: Moment) -> None:
    if now.is_start or not now.is_finite or now.failure:
      return
    if now.every(self._every):
      self._save(now)
    if now.is_last:
      self._settle(now)
      if self._unsaved is not None:
        raise TrainingFailedError(
          f'step {self._unsaved:,} is done but could not be saved; free some '
          'space and resume from the checkpoint before it'
        )

  def _save(self, now: Moment) -> None:
    state = now.global_state
    self._settle(now)
    items = {STATE: state, **self._export(state)}
    best = self._best(now) if now.run.is_first_process else None
    (best,) = processes.as_first_says(best or 0)
    self._unsaved = now.step
    try:
      now.run.checkpoints.save(
        now.step, items, now.run.info, best or None, now.run.config.to_dict()
      )
      self._is_writing = True
    except Exception as error:  # Orbax raises many types
      self._failed(now, error)

  def _settle(self, now: Moment) -> None:
    """Waits until the last checkpoint is complete or has failed."""
    if not self._is_writing:
      return
    self._is_writing = False
    try:
      now.run.checkpoints.wait()
      self._unsaved = None
    except Exception as error:  # Orbax raises many types
      self._failed(now, error)

  def _failed(self, now: Moment, error: Exception) -> None:
    now.run.checkpoints.forget_failure()
    now.cannot_write(f'the checkpoint of step {self._unsaved:,}', error)

  def _best(self, now: Moment) -> int | None:
    rows = now.run.record.rows
    values = {row['step']: row.get(self._best_by) for row in rows}
    return selection.best_step(values, self._best_by)


class Report:
  """Keeps run.json, and writes report.html when the run is finished.

  `Run.fit` adds it. A run can do without both files: a failure costs a line.
  """

  def __init__(
    self,
    step: Callable,
    networks: Callable[[State], Mapping[str, Any]],
    hooks: Sequence[Callable[[Moment], None]],
  ):
    """Creates the hook.

    Args:
      step: the train step, whose name the record has.
      networks: state -> parameters by network.
      hooks: the run's other hooks. The report groups metrics as `Curves` does.
    """
    self._function = provenance.name_of(step)
    self._networks = networks
    curves = (hook for hook in hooks if isinstance(hook, Curves))
    self._panels = {
      k: list(v) for hook in curves for k, v in hook.panels.items()
    }
    self._record: provenance.Provenance | None = None

  def __call__(self, now: Moment) -> None:
    if not now.run.is_first_process:
      return
    if now.is_start:
      if self._record is None:  # not after a rollback
        self._begin(now)
    elif now.is_last and now.is_finite and not now.failure:
      self._end(now)

  def _begin(self, now: Moment) -> None:
    run = now.run
    with _reporting(now, provenance.FILE):
      start = provenance.start_now(now.step, run.parallel.describe())
      self._record = provenance.Provenance(
        self._function,
        {'kind': run.kind_of_examples, **run.info},
        provenance.num_parameters(self._networks(now.state), run.root.size),
        self._panels,
        [*provenance.earlier_starts(run.workdir), start],
      )
      provenance.write(run.workdir, self._record)

  def _end(self, now: Moment) -> None:
    with _reporting(now, provenance.FILE):
      self._record.starts[-1].ended = provenance.now()
      self._record.starts[-1].reached = now.step
      provenance.write(now.run.workdir, self._record)
    if now.is_finished:
      with _reporting(now, page.FILE):
        output.write_log()  # from which the report takes warnings
        page.write(now.run.workdir)


@contextlib.contextmanager
def _reporting(now: Moment, name: str) -> Iterator[None]:
  """Says what failed to be written; nothing that fails here ends a run."""
  try:
    yield
  except Exception as error:
    now.say(f'{name} cannot be written: {checkpoints_lib.reason(error)}')
