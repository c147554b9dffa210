"""A run in its workdir: opened, started or resumed, and trained.

  with open_run(config, workdir, ...) as run:
    ...  # everything that may fail because of the user's input
    return run.fit(step, init, source, hooks)

Nothing is written before `fit` begins, so a mistake leaves no trace.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import functools
import gc
import math
from typing import Any

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import output
from common_flax.cli import terminal
from common_flax.data.batches import Batch
from common_flax.data.batches import join_each
from common_flax.data.batches import prefetched
from common_flax.data.source import Source
from common_flax.distributed import processes
from common_flax.distributed import sharding
from common_flax.distributed.signals import Signals
from common_flax.errors import UserError
from common_flax.training import health
from common_flax.training import limits
from common_flax.training import loop
from common_flax.training import recovery
from common_flax.training import seeds as seeds_lib
from common_flax.training import speed
from common_flax.training.hooks import Report
from common_flax.training.inputs import Inputs
from common_flax.training.loop import Hook
from common_flax.training.loop import State
from common_flax.training.origin import Origin
from common_flax.training.watch import Measure
from common_flax.workdir import layout
from common_flax.workdir import lock
from common_flax.workdir import trackers
from common_flax.workdir.checkpoints import CheckpointStore
from common_flax.workdir.writers import RunWriter


@contextlib.contextmanager
def open_run(
  config: ConfigDict,
  workdir: epath.PathLike,
  *,
  default: ConfigDict,
  effects: Mapping[str, Sequence] | None = None,
  has_fixed_steps: bool = False,
  num_seeds: int = 1,
  init_from: epath.PathLike | None = None,
) -> Iterator['Run']:
  """Opens a run and checks its workdir.

  Args:
    config: the run's config, checked by its family.
    workdir: folder of the run; `Run.fit` creates it if it is missing.
    default: the family's default config, with every field.
    effects: when the family's own fields have an effect, see that module.
    has_fixed_steps: whether a schedule depends on `num_steps`, which then must
      not change when the run is resumed.
    num_seeds: runs trained at once, with seeds `config.seed`, + 1, + 2, ...
    init_from: workdir of a run whose weights initialise a new run. A resumed
      run ignores it.

  Yields:
    The run. Several processes wait for each other in `Run.fit`, and leave
    together if one of them fails earlier.

  Raises:
    UserError: if an argument, field or file is invalid.
    StoppedError: if a signal comes before the first step.
  """
  with (
    output.outliving_reader(),
    Signals() as signals,
    contextlib.ExitStack() as held,
    contextlib.ExitStack() as preparing,
  ):
    preparing.enter_context(processes.together())
    is_resumed = layout.check(
      workdir, config, default, has_fixed_steps, effects
    )
    limits.check_devices(config, num_seeds, is_resumed)
    trackers.check_installed(config)
    if init_from and is_resumed:
      print(f'--init_from={init_from}: ignored; {workdir} resumes its own run.')
    if init_from and not is_resumed and num_seeds > 1:
      raise UserError(
        f'--init_from={init_from}: initialises a single run; set '
        f'config.num_seeds={num_seeds} to 1'
      )
    yield Run(
      config,
      workdir,
      num_seeds,
      None if is_resumed else init_from,
      is_resumed,
      signals,
      preparing,
      held,
    )


class Run:
  """One training run, or several that differ only in their seeds.

  Attributes:
    config: the run's config.
    workdir: folder of the run.
    init_from: workdir of the initial weights; None if the run is resumed.
    parallel: how the step runs on the devices.
    axis: splits a batch over devices; models and steps are built for it.
    root: the root key, or one root key for each seed.
    signals: the signals that stop the run.
    is_first_process: whether this process writes, draws and judges.
    checkpoints: the checkpoints in the workdir, during `fit`.
    record: writer of metrics and pictures; None except in the first process.
    progress: the progress on the terminal.
    info: JSON that is stored in checkpoints.
  """

  def __init__(
    self,
    config: ConfigDict,
    workdir: epath.PathLike,
    num_seeds: int,
    init_from: epath.PathLike | None,
    is_resumed: bool,
    signals: Signals,
    preparing: contextlib.ExitStack,
    held: contextlib.ExitStack,
  ):
    self.config = config
    self.workdir = workdir
    self.init_from = init_from
    self.parallel = sharding.create(config.parallelism, num_seeds)
    self.axis = self.parallel.axis
    self.root = seeds_lib.root_keys(config.seed, num_seeds)
    self.signals = signals
    self.is_first_process = processes.is_first()
    self.checkpoints: CheckpointStore | None = None
    self.record: RunWriter | None = None
    self.progress: terminal.TrainingProgress | None = None
    self.info: dict[str, Any] = {}
    self.kind_of_examples = 'images'
    self._num_seeds = num_seeds
    self._is_resumed = is_resumed
    self._preparing = preparing
    self._held = held
    self._loop_exit: contextlib.ExitStack | None = None
    self._measure_speed: Callable[[], speed.Speed] | None = None

  def fit(
    self,
    step: sharding.Step,
    init: Callable[[jax.Array], State],
    source: Source,
    hooks: Sequence[Hook],
    *,
    networks: Callable[[State], Mapping[str, Any]] = lambda state: state.params,
    batches_per_step: int = 1,
    with_labels: bool = False,
    is_convolutional: bool = True,
    adopt: Callable[[State], State] | None = None,
  ) -> int | None:
    """Trains until `config.num_steps`, from the newest checkpoint if any.

    Args:
      step: (state, batch [U, B, ...], root) -> (state, metrics), pure.
      init: root key -> state before the first step, pure.
      source: the training data.
      hooks: called after every call of the step, in order.
      networks: state -> parameters by network, which are listed and counted.
      batches_per_step: U.
      with_labels: whether batches are `Labelled`.
      is_convolutional: whether the networks are convolutional; on a CPU, dense
        networks need other compiler options.
      adopt: replaces the weights of a new run's state.

    Returns:
      None if `num_steps` was reached, else the number of the stopping signal.

    Raises:
      UserError: if an argument, field or file is invalid; nothing is written.
      StoppedError: if a signal comes before the first step.
      TrainingFailedError: if the run fails or cannot be saved.
    """
    size, seeds = self.config.batch_size, self._num_seeds
    inputs = Inputs(source, size, batches_per_step, seeds, with_labels)
    functions = self._functions(step, init, inputs)
    place = self.parallel.state_sharding
    origin = Origin(functions.init, self.root, place, adopt)
    self._begin(functions.step, origin, inputs)
    call = loop.compile_step(
      functions.step, self.parallel, self.config, is_convolutional
    )
    with self.signals.held(), self._open_checkpoints() as self.checkpoints:
      start, state = origin.newest(self.checkpoints)
      self._introduce(start, state, networks)
      hooks = [*hooks, Report(step, networks, hooks)]
      while start < self.config.num_steps:
        attempt = int(np.max(jax.device_get(state.attempt)))
        try:
          with self._recording(start), self.stepping(start, functions) as ready:
            state = self.parallel.spread(state)
            return loop.fit(self, call, state, start, ready, hooks)
        except (health.NotFiniteError, health.FailingError) as error:
          recovery.go_back(self, error, call, origin, functions, hooks, attempt)
        start, state = origin.newest(self.checkpoints, attempt + 1)
    return None

  @property
  def devices_per_batch(self) -> int:
    """Number of devices over which each batch is split."""
    return self.parallel.num_devices if self._num_seeds == 1 else 1

  def measure(self, function: Measure, state: State) -> Mapping[str, Any]:
    """Applies `function` to (root, state) of every run and combines results."""
    return seeds_lib.measure(function, self.root, state, self._num_seeds)

  def members(self, state: State) -> Iterator[tuple[jax.Array, State]]:
    """Yields the root key and the state of each run."""
    for i in range(self._num_seeds):
      root = seeds_lib.member(self.root, i, self._num_seeds)
      yield root, seeds_lib.member(state, i, self._num_seeds)

  def rates(self, seconds_per_step: float) -> dict[str, float]:
    """Metrics of training speed, see `speed.Speed`."""
    return self._measure_speed().rates(seconds_per_step)

  def regular_rows(self) -> list[health.Row]:
    """The recorded metrics, without those of interruptions."""
    every = self.config.log_every_steps
    return [row for row in self.record.rows if row['step'] % every == 0]

  def at_exit(self, function: Callable[[], None]) -> None:
    """Registers a function to call when the loop ends or fails."""
    self._loop_exit.callback(function)

  def _functions(
    self,
    step: sharding.Step,
    init: Callable[[jax.Array], State],
    inputs: Inputs,
  ) -> seeds_lib.Functions:
    batches = functools.partial(
      inputs.batches,
      num_steps=self.config.num_steps,
      rows=self.parallel.rows(self.config.batch_size),
    )
    functions = seeds_lib.vectorise(
      seeds_lib.Functions(init, step, batches), self._num_seeds
    )
    # Traced once, for both training and counting operations.
    return functions._replace(step=jax.jit(functions.step, inline=True))

  def _begin(self, step: sharding.Step, origin: Origin, inputs: Inputs) -> None:
    """Makes the last checks, then locks the workdir.

    Raises:
      UserError: if an argument, field or file is invalid.
    """
    self.info, self.kind_of_examples = inputs.info, inputs.kind
    if self._is_resumed:
      with layout.open_checkpoints(self.workdir) as store:
        store.check_info(self.info)
    inputs.check_classes(self.workdir, self._is_resumed)
    if self.init_from:
      origin.check_adoption(self.init_from)
    limits.check_fits(self.config, origin.abstract, inputs)
    self._measure_speed = functools.cache(
      functools.partial(
        speed.measure,
        step,
        origin.abstract,
        inputs.abstract(),
        self.root,
        self.parallel,
        images_per_step=math.prod(inputs.axes),
        dtype=np.dtype(self.config.compute_dtype),
      )
    )
    self._preparing.close()  # waits until every process is ready
    with processes.together():
      if self.is_first_process:
        layout.create(self.workdir)
        self._held.enter_context(lock.held(self.workdir))
        layout.write_config(self.workdir, self.config)
        inputs.write_names(self.workdir)
    print(inputs.describe(self.config, self.workdir))
    print(f'Training on {self.parallel.describe()} in {self.workdir}')

  def _open_checkpoints(self) -> CheckpointStore:
    folder = epath.Path(self.workdir) / layout.CHECKPOINTS
    return CheckpointStore(folder, self.config.keep_checkpoints)

  def _introduce(
    self,
    start: int,
    state: State,
    networks: Callable[[State], Mapping[str, Any]],
  ) -> None:
    if start >= self.config.num_steps:
      print(f'{self.workdir}: already finished at step {start:,}.')
      return
    if self.is_first_process:
      output.log_to(self.workdir)
      first = seeds_lib.member(state, 0, self._num_seeds)
      terminal.print_parameters(networks(first))
    if start:
      print(f'Resuming from step {start:,} in {self.workdir}.')

  @contextlib.contextmanager
  def _recording(self, start: int) -> Iterator[None]:
    """Opens the record of the first process, starting at a step."""
    with contextlib.ExitStack() as stack:
      if self.is_first_process:
        writer = RunWriter(self.workdir, start, self.config)
        self.record = stack.enter_context(writer)
      self._loop_exit = stack.enter_context(contextlib.ExitStack())
      yield

  @contextlib.contextmanager
  def stepping(
    self, start: int, functions: seeds_lib.Functions
  ) -> Iterator[Iterator[Batch]]:
    """Shows progress and yields batches on the devices, starting at a step."""
    batches = functions.batches(self.config.seed, start)
    calls = join_each(batches, self.config.steps_per_call)
    with (
      prefetched(calls, self.parallel.put_batches) as ready,
      terminal.TrainingProgress(start, self.config.num_steps) as self.progress,
    ):
      try:
        yield ready
      finally:
        gc.unfreeze()
