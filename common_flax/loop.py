"""The training loop: restore or start, step, log, draw, checkpoint, finish.

The loop knows nothing of models. A family describes its training in a `Task` of
pure functions; the loop runs it, and leaves in the workdir what the README
lists. A run that is stopped and started again ends with the same bits as one
that never stopped.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import signal
import threading
import time
from typing import Any

from etils import epath
import jax
import numpy as np

from common_flax import checkpoints as checkpoints_lib
from common_flax import terminal
from common_flax.checkpoints import Checkpoints
from common_flax.data.batches import prefetched
from common_flax.sharding import Parallel
from common_flax.sharding import Step
from common_flax.workdir import CHECKPOINTS
from common_flax.writers import RunWriter

State = Any  # a pytree with the field `step`


@dataclasses.dataclass(frozen=True)
class Task:
  """What a family trains, as functions."""

  init: Callable[[], State]  # the state before the first step, pure
  adopt: Callable[[State], State]  # what a new run takes from elsewhere
  step: Step
  batches: Callable[[int], Iterator[np.ndarray]]  # from a step on
  images_per_step: int  # real images, over all devices
  draw: Callable[[State], np.ndarray]  # uint8 [N, H, W, C], of fixed latents
  networks: Callable[[State], Mapping[str, Any]]  # parameters by network
  export: Callable[[State], Mapping[str, Any]]  # checkpoint items beside state
  info: Mapping[str, Any]  # JSON that checkpoints carry
  curves: Mapping[str, Sequence[str]]  # panels of curves.png


@dataclasses.dataclass(frozen=True)
class Schedule:
  """When to stop, and what to do every so many steps."""

  num_steps: int
  log_every: int
  sample_every: int
  checkpoint_every: int
  keep_checkpoints: int


class _Signals:
  """Remembers a first SIGTERM or SIGINT; a second one acts at once."""

  _NUMBERS = (signal.SIGTERM, signal.SIGINT)

  def __enter__(self) -> '_Signals':
    self.received: int | None = None
    self._previous = {}
    if threading.current_thread() is threading.main_thread():
      self._previous = {n: signal.signal(n, self._on) for n in self._NUMBERS}
    return self

  def _on(self, number: int, unused_frame) -> None:
    self.received = number
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def __exit__(self, *unused_exception) -> None:
    self._restore()


class _Meter:
  """Means of metrics and the rate of images since the last report."""

  def __init__(self, images_per_step: int):
    self._images_per_step = images_per_step
    self._metrics = []
    self.restart_clock()

  def restart_clock(self) -> None:
    """Leaves the steps and the time until now out of the rate."""
    self._start = time.monotonic()
    self._untimed = len(self._metrics)
    self._paused = 0.0

  @contextlib.contextmanager
  def pause(self) -> Iterator[None]:
    """Leaves what is done inside out of the rate; devices should be idle."""
    start = time.monotonic()
    yield
    self._paused += time.monotonic() - start

  def add(self, metrics: Mapping[str, jax.Array]) -> None:
    """Takes a step's metrics, which may still be on their way."""
    self._metrics.append(metrics)

  def means(self, local: Callable[[Any], Any]) -> dict[str, float]:
    """The means, once the devices are done, and starts anew.

    Args:
      local: brings metrics to one device, as `Parallel.local`.
    """
    rows = jax.device_get(local(self._metrics))
    means = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    timed = len(rows) - self._untimed
    if timed:
      seconds = time.monotonic() - self._start - self._paused
      means['images_per_second'] = timed * self._images_per_step / seconds
    self._metrics = []
    self.restart_clock()
    return means


def _restore_or_start(
  task: Task, checkpoints: Checkpoints, parallel: Parallel
) -> tuple[int, State]:
  """The newest good checkpoint's step and state, or those of the start."""
  sharding = parallel.replicated
  if not checkpoints.steps():
    # Compiled whole, so that no two parameters share a buffer.
    state = jax.jit(task.init, out_shardings=sharding)()
    return 0, jax.device_put(task.adopt(state), sharding)
  abstract = checkpoints_lib.abstract_like(task.init, sharding)
  step, state = checkpoints.newest(
    lambda step: checkpoints.restore(step, checkpoints_lib.STATE, abstract)
  )
  checkpoints.discard_after(step)
  return step, state


def train(
  task: Task,
  schedule: Schedule,
  parallel: Parallel,
  workdir: epath.PathLike,
  root: jax.Array,
  description: str,
) -> int | None:
  """Trains until `num_steps` or a signal.

  Args:
    task: what to train.
    schedule: how long, and what to do on the way.
    parallel: how to run on the devices.
    workdir: the run's folder, which exists.
    root: the root key.
    description: of the run, for TensorBoard; Markdown.

  Returns:
    None once `num_steps` is reached, or the number of the signal that stopped
    training; in both cases the last step is checkpointed.
  """
  workdir = epath.Path(workdir)
  directory = workdir / CHECKPOINTS
  with Checkpoints(directory, schedule.keep_checkpoints) as checkpoints:
    start, state = _restore_or_start(task, checkpoints, parallel)
    if start >= schedule.num_steps:
      print(f'{workdir}: already finished, at step {start:,}.')
      return None
    terminal.print_parameters(task.networks(state))
    if start:
      print(f'Going on from step {start:,} in {workdir}.')
    with RunWriter(workdir, start, task.curves) as writer:
      if not start:
        writer.text('config', description)
      return _run(
        task, schedule, parallel, root, start, state, checkpoints, writer
      )


def _run(
  task: Task,
  schedule: Schedule,
  parallel: Parallel,
  root: jax.Array,
  start: int,
  state: State,
  checkpoints: Checkpoints,
  writer: RunWriter,
) -> int | None:
  """The loop itself, from step `start`; returns as `train` does."""
  meter = _Meter(task.images_per_step)
  step_fn = parallel.compile(task.step)
  state = parallel.spread(state)
  step = start

  def draw() -> None:
    jax.block_until_ready(state)
    with meter.pause():
      writer.grid(step, task.draw(parallel.local(state)))
      writer.curves()

  def report() -> None:
    means = meter.means(parallel.local)
    writer.scalars(step, means)
    bad = [name for name, value in means.items() if not np.isfinite(value)]
    if bad:
      progress.say(
        f'Step {step:,}: {", ".join(bad)} not finite; training has diverged. '
        'Stop it, and try lower learning rates or a max_grad_norm.'
      )
    parts = [f'{k} {v:.3f}' for k, v in means.items() if k.endswith('_loss')]
    if rate := means.get('images_per_second'):
      left = (schedule.num_steps - step) * task.images_per_step / rate
      parts += [f'{rate:,.0f} images/s', f'{terminal.duration(left)} left']
    progress.report(step, '  '.join(parts))

  def save() -> None:
    jax.block_until_ready(state)
    with meter.pause():
      whole = parallel.gather(state)
      items = {checkpoints_lib.STATE: whole, **task.export(whole)}
      checkpoints.save(step, items, dict(task.info))

  with (
    _Signals() as signals,
    prefetched(task.batches(start), parallel.put_batch) as batches,
    terminal.TrainingProgress(start, schedule.num_steps) as progress,
  ):
    if not start:
      draw()
    began = time.monotonic()
    for batch in batches:
      state, metrics = step_fn(state, batch, root)
      step += 1
      meter.add(metrics)
      if step == start + 1:
        jax.block_until_ready(metrics)
        seconds = time.monotonic() - began
        progress.say(f'First step after {seconds:.1f} s of compiling.')
        progress.began()
        meter.restart_clock()
      progress.advance(step)
      finished = step == schedule.num_steps
      last = finished or signals.received is not None
      if step % schedule.log_every == 0 or last:
        report()
      if step % schedule.sample_every == 0 or finished:
        draw()
      if finished:
        # Before the checkpoint that says so.
        writer.gif()
      if step % schedule.checkpoint_every == 0 or last:
        save()
      if last:
        break
  return None if step == schedule.num_steps else signals.received
