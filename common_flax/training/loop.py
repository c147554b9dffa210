"""The training loop: take a step, then call the hooks.

The loop knows nothing about models. It takes batches that are already on the
devices, calls a compiled function of (state, batches, root), and passes every
hook a `Moment` after each call.

Dimensions: K steps per call, U batches per step, B batch.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import gc
import time
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from ml_collections import ConfigDict

from common_flax import files
from common_flax.cli import terminal
from common_flax.cpu import compiler
from common_flax.cpu import loops
from common_flax.data.batches import Batch
from common_flax.distributed import processes
from common_flax.distributed.sharding import Parallel
from common_flax.distributed.sharding import Step
from common_flax.errors import TrainingFailedError
from common_flax.training import finite
from common_flax.training.health import FailingError
from common_flax.training.health import Failure
from common_flax.training.health import NotFiniteError
from common_flax.training.meter import Meter
from common_flax.training.meter import PackedMetrics
from common_flax.workdir import checkpoints as checkpoints_lib

Run = Any  # `run.Run`, whose module imports this one
State = Any  # a pytree of arrays with the fields `step` and `attempt`
Hook = Callable[['Moment'], None]


class Moment:
  """A run between two calls of the train step, as hooks see it.

  Hooks are called once before the first step of a start or a resumption
  (`is_start`), and then after every call of the step.

  Attributes:
    run: the run, with its config, workdir, record and checkpoints.
    step: train steps completed.
    is_start: whether no step has been taken since the start or resumption.
    is_finished: whether `num_steps` is reached.
    is_last: whether the run is finished or stopped by a signal.
    is_report: whether metrics are reported: at multiples of `log_every_steps`
      and at the last step.
    metrics: if `is_report`, means of the step's metrics since the last report,
      over the last step of each call; otherwise empty. A hook may add numbers,
      which `Metrics` writes.
    seconds_per_step: mean over the same steps; None if unknown.
    is_finite: False if a metric or parameter is known to be NaN or infinite.
    failure: set by a hook to make the run stop or go back.
  """

  def __init__(
    self,
    run: Run,
    step: int,
    state: State,
    meter: Meter,
    *,
    is_start: bool = False,
    is_stopped: bool = False,
  ):
    self.run = run
    self.step = step
    self.is_start = is_start
    self.is_finished = step == run.config.num_steps
    self.is_last = self.is_finished or is_stopped
    self.is_report = self.every(run.config.log_every_steps)
    self.metrics: dict[str, float] = {}
    self.seconds_per_step: float | None = None
    self.is_finite = True
    self.failure: Failure | None = None
    self._state = state
    self._meter = meter

  def is_multiple_of(self, every: int) -> bool:
    """Whether a step was taken and `step` is a multiple of `every`."""
    return not self.is_start and self.step % every == 0

  def every(self, steps: int) -> bool:
    """True every `steps` steps and after the last one."""
    return self.is_multiple_of(steps) or self.is_last

  @property
  def state(self) -> State:
    """The state on one device, which the next step overwrites.

    Time from here until the hooks are done does not count as training time.
    """
    self.wait()
    return self.run.parallel.local(self._state)

  @property
  def global_state(self) -> State:
    """The state as a checkpoint holds it, on all devices."""
    self.wait()
    return self.run.parallel.gather(self._state)

  def wait(self) -> None:
    """Waits for the devices and stops the clock until the hooks are done."""
    jax.block_until_ready(self._state)
    self._meter.stop_clock()

  def say(self, line: str) -> None:
    """Prints a line, above the progress bar if there is one."""
    self.run.progress.say(line)

  @contextlib.contextmanager
  def writing(self, what: str) -> Iterator[None]:
    """Applies `config.on_save_error` to file errors of the body.

    Raises:
      TrainingFailedError: if the run has to stop.
    """
    try:
      yield
    except Exception as error:
      if not files.is_file_error(error):
        raise
      self.cannot_write(what, error)

  def cannot_write(self, what: str, error: Exception) -> None:
    """Reports a failed write, or stops the run.

    Several processes always stop, because they must agree on what is saved.

    Raises:
      TrainingFailedError: if the run has to stop.
    """
    reason = checkpoints_lib.reason(error)
    message = f'step {self.step:,}: {what} cannot be written: {reason}'
    if self.run.config.on_save_error == 'stop' or processes.count() > 1:
      steps = self.run.checkpoints.whole_steps()
      left = (
        f'The newest checkpoint is that of step {steps[-1]:,}'
        if steps
        else 'There is no checkpoint to resume from'
      )
      raise TrainingFailedError(f'{message}. {left}') from error
    self.say(f'{message}; continuing, because config.on_save_error=warn')


def chain_steps(
  step: Step, num_steps: int, *, skip_not_finite: bool, unroll: bool | int
) -> Callable:
  """Returns a function that takes `num_steps` train steps.

  Args:
    step: one train step, on batches [U, B, ...].
    num_steps: K.
    skip_not_finite: whether a call leaves the state unchanged if its results
      are not finite.
    unroll: how far to unroll the loop over all steps but the last.

  Returns:
    (state, batches [K, U, B, ...], root) -> (state, PackedMetrics), with the
    metrics of the last step.
  """

  def call(state, batches, root):
    before = state
    if num_steps > 1:
      state = lax.fori_loop(
        0,
        num_steps - 1,
        lambda i, state: step(state, _part(batches, i), root)[0],
        state,
        unroll=unroll,
      )
    state, metrics = step(state, _part(batches, -1), root)
    if skip_not_finite:
      state, is_good = finite.skip_if_not_finite(before, state, metrics)
      metrics = metrics | {finite.SKIPPED: jnp.where(is_good, 0, num_steps)}
    values = jnp.stack(list(metrics.values()))
    return state, PackedMetrics(values, tuple(metrics))

  return call


def compile_step(
  step: Step, parallel: Parallel, config: ConfigDict, is_convolutional: bool
) -> Callable:
  """Compiles the train step of a run for `fit`.

  Args:
    step: one train step.
    parallel: how the step runs on the devices.
    config: the run's config; `steps_per_call` and `on_nan` are used.
    is_convolutional: whether the networks are convolutional; on a CPU, dense
      networks need other compiler options.
  """
  call = chain_steps(
    step,
    config.steps_per_call,
    skip_not_finite=config.on_nan == 'skip',
    unroll=loops.unroll(is_convolutional=is_convolutional),
  )
  options = {} if is_convolutional else compiler.for_dense_networks()
  return parallel.compile(call, options)


def _part(batches: Batch, index: int | jax.Array) -> Batch:
  return jax.tree.map(lambda x: x[index], batches)


def fit(
  run: Run,
  call: Callable,
  state: State,
  start: int,
  batches: Iterable[Batch],
  hooks: Sequence[Hook],
) -> int | None:
  """Trains until `num_steps` or until a signal stops the run.

  Args:
    run: the run.
    call: the compiled step, from `compile_step`.
    state: the first argument of `call`; donated.
    start: train steps completed.
    batches: the batches of each call, on the devices.
    hooks: called in order.

  Returns:
    None if `num_steps` was reached, else the number of the stopping signal.

  Raises:
    FailingError: if a hook reports a failure.
    NotFiniteError: if training diverged, unless `config.on_nan` ignores it.
    TrainingFailedError: if the run has to stop.
  """
  meter, ballot = Meter(run.parallel.local), processes.Ballot()
  step, num_skipped, stopped_by = start, 0, 0
  moment = Moment(run, step, state, meter, is_start=True)
  _run_hooks(hooks, moment, meter)
  for batch in batches:
    began = time.monotonic()
    state, metrics = call(state, batch, run.root)
    meter.add(metrics, run.config.steps_per_call)
    if step == start:
      jax.block_until_ready(metrics)
      seconds = time.monotonic() - began
      run.progress.say(f'First step after {seconds:.1f} s of compiling.')
      run.progress.began()
      gc.freeze()  # objects left by compiling are never garbage
      meter.restart_clock()
    step += run.config.steps_per_call
    run.progress.advance(step)
    stopped_by = ballot.vote(run.signals.received or 0)
    moment = Moment(run, step, state, meter, is_stopped=bool(stopped_by))
    not_finite = _read(moment, meter)
    num_skipped += _skipped(moment, num_skipped)
    _run_hooks(hooks, moment, meter)
    if not_finite:
      raise not_finite
    if moment.failure:
      raise FailingError(step, moment.failure)
    if moment.is_last:
      break
  return None if moment.is_finished else stopped_by


def _run_hooks(hooks: Sequence[Hook], moment: Moment, meter: Meter) -> None:
  for hook in hooks:
    hook(moment)
  meter.run_clock()


def _read(moment: Moment, meter: Meter) -> NotFiniteError | None:
  """Reads the metrics if they are due; returns an error if not finite."""
  config = moment.run.config
  saves = moment.every(config.checkpoint_every_steps)
  error = None
  if moment.is_report or saves:
    bad = meter.first_bad()
    if bad is None and saves and not finite.is_finite(moment.state):
      # A bad update shows only in the metrics of the next step.
      bad = (0, ['parameters'])
    error = bad and _not_finite(moment, *bad)
  if moment.is_report:
    meter.run_clock()
    moment.metrics, moment.seconds_per_step = meter.read()
  return error


def _not_finite(
  moment: Moment, calls_since: int, names: list[str]
) -> NotFiniteError | None:
  per_call = moment.run.config.steps_per_call
  before = moment.step - (calls_since + 1) * per_call
  if moment.run.config.on_nan == 'warn':
    moment.say(
      f'Step {before + per_call:,}: {", ".join(names)} not finite; training '
      'has diverged. Stop it, and try lower learning rates or a max_grad_norm.'
    )
    return None
  moment.is_finite = False
  return NotFiniteError(before, names, moment.step)


def _skipped(moment: Moment, before: int) -> int:
  """Counts the steps skipped since the last report.

  Raises:
    TrainingFailedError: if too many steps were skipped in all.
  """
  num = int(moment.metrics.get(finite.SKIPPED, 0))
  limit = moment.run.config.on_nan_max_skips
  if num:
    moment.say(
      f'Step {moment.step:,}: {terminal.counted(num, "step")} skipped because '
      f'of results that were not finite; {before + num:,} in all.'
    )
  if before + num > limit:
    total = terminal.counted(before + num, 'step')
    raise TrainingFailedError(
      f'step {moment.step:,}: {total} skipped, more than '
      f'config.on_nan_max_skips={limit}. Try lower learning rates or a '
      'max_grad_norm.'
    )
  return num
