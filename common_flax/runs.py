"""Runs: from a config and a workdir to a training that starts or goes on.

What has one right answer whatever is trained: the order of the checks, so that
nothing is written before all of them have passed; the data; the weights of
another run; what is restored from a workdir.
"""

import contextlib
from typing import Any
from typing import NamedTuple

from etils import epath
import jax
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import lock
from common_flax import loop
from common_flax import prng
from common_flax import processes
from common_flax import seeds as seeds_lib
from common_flax import sharding
from common_flax import sources
from common_flax import tasks
from common_flax import workdir as workdir_lib
from common_flax.checkpoints import STATE
from common_flax.config import require
from common_flax.config import UserError
from common_flax.data.source import Source
from common_flax.family import Family
from common_flax.family import Model
from common_flax.signals import Signals
from common_flax.task import Policy
from common_flax.task import Schedule
from common_flax.task import Task


def _read_weights(family: Family, workdir: epath.PathLike) -> Any:
  """The weights of another run.

  Raises:
    UserError: if the workdir holds no run or no checkpoint.
  """
  config = workdir_lib.read_config(
    workdir, family.default_config(), family.check_config
  )
  if family.num_seeds(config) > 1:
    raise UserError(
      f'--init_from={workdir}: holds several runs; take one of one'
    )
  root = prng.root_key(config.seed)
  step, _, state = workdir_lib.restore(
    workdir,
    STATE,
    config,
    family.create,
    lambda model: family.init_state(model, root),
  )
  print(f'Starting from the weights of {workdir} at step {step:,}.')
  return family.weights(state)


def _check_weights(
  family: Family, model: Model, weights: Any, init_from: epath.PathLike
) -> None:
  """Refuses weights that are not those of this model's networks."""
  expected = family.weights(
    jax.eval_shape(lambda: family.init_state(model, prng.root_key(0)))
  )

  def kinds(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

  if kinds(weights) != kinds(expected):
    raise UserError(
      f'--init_from={init_from}: its networks are of other shapes or types; '
      'take its config.model.*, config.compute_dtype and '
      'config.dataset.image_size, and images of as many channels'
    )


def _schedule(config: ConfigDict, profile: range | None) -> Schedule:
  return Schedule(
    num_steps=config.num_steps,
    log_every=config.log_every_steps,
    sample_every=config.sample_every_steps,
    checkpoint_every=config.checkpoint_every_steps,
    evaluate_every=config.evaluate_every_steps,
    keep_checkpoints=config.keep_checkpoints,
    steps_per_call=config.steps_per_call,
    profile=profile,
  )


def _policy(config: ConfigDict) -> Policy:
  return Policy(
    on_nan=config.on_nan,
    max_skips=config.on_nan_max_skips,
    max_rollbacks=config.on_nan_max_rollbacks,
    on_save_error=config.on_save_error,
  )


def _check_devices(config: ConfigDict, num_seeds: int) -> None:
  num_devices = jax.device_count()
  # Several runs are split over the devices, not their batches.
  require(
    num_seeds > 1 or config.batch_size % num_devices == 0,
    config,
    'batch_size',
    f'must be divisible by the {num_devices} devices',
  )
  require(
    num_seeds == 1 or processes.count() == 1,
    config,
    'num_seeds',
    'several runs at once are of one process; start each process with '
    '--distributed=off and other seeds',
  )
  require(
    num_seeds == 1 or config.on_nan in ('stop', 'warn'),
    config,
    'on_nan',
    "several runs at once have all one fate; take 'stop' or 'warn'",
  )


def _open_source(
  family: Family, config: ConfigDict, workdir: epath.PathLike, started: bool
) -> tuple[Source, dict[str, Any]]:
  """The data, and what checkpoints say of it.

  Raises:
    UserError: if it cannot be read, or a started run had other data.
  """
  source = family.prepare_source(
    config, sources.load(config.dataset, config.dataset.split)
  )
  info = {
    'image_shape': source.example_shape,
    'num_examples': len(source),
    'num_classes': source.num_classes,
  }
  if started:
    with workdir_lib.open_checkpoints(workdir) as checkpoints:
      checkpoints.check_info(info)
  return source, info


def _introduction(
  config: ConfigDict,
  source: Source,
  num_seeds: int,
  num_devices: int,
  workdir: epath.PathLike,
) -> str:
  devices = f'{num_devices} x {jax.devices()[0].device_kind}'
  shape = source.example_shape
  lines = [
    f'{len(source):,} {tasks.kind(source)} {shape} of {config.dataset.name}'
  ]
  if num_seeds > 1:
    last = config.seed + num_seeds - 1
    lines.append(
      f'{num_seeds} runs at once, of the seeds {config.seed} to {last}'
    )
  if processes.count() > 1:
    devices += f', of {processes.count()} processes,'
  return '\n'.join([*lines, f'Training on {devices} in {workdir}'])


def train(
  family: Family,
  config: ConfigDict,
  workdir: epath.PathLike,
  init_from: epath.PathLike | None = None,
  profile: range | None = None,
) -> int | None:
  """Trains until `config.num_steps`, or goes on where the workdir stands.

  Args:
    family: what to train.
    config: every field of the family's default config.
    workdir: folder of the run, made if missing.
    init_from: workdir of a run whose weights a new run starts from; nothing to
      a run that goes on.
    profile: steps to record a trace of, if any.

  Returns:
    None once `num_steps` is reached, else the number of the signal that came.

  Raises:
    UserError: if something that the user gave is wrong; nothing is written
      then.
    StoppedError: if a signal comes before the first step.
    TrainingFailedError: if the run stops since it fails, or cannot be saved.
  """
  with Signals() as signals, contextlib.ExitStack() as held:

    def take_workdir() -> None:
      if processes.is_first():
        workdir_lib.create(workdir)
        held.enter_context(lock.held(workdir))
        workdir_lib.write_config(workdir, config)

    prepared = processes.together(
      lambda: _prepare(family, config, workdir, init_from)
    )
    processes.together(take_workdir)
    print(prepared.introduction)
    return loop.train(
      prepared.task,
      _schedule(config, profile),
      _policy(config),
      prepared.parallel,
      workdir,
      prepared.roots,
      f'```\n{config_lib.to_json(config)}```',
      signals,
    )


class _Prepared(NamedTuple):
  """All that the loop needs of a run."""

  task: Task
  parallel: sharding.Parallel
  roots: jax.Array
  introduction: str


def _prepare(
  family: Family,
  config: ConfigDict,
  workdir: epath.PathLike,
  init_from: epath.PathLike | None,
) -> _Prepared:
  """Checks everything before the first thing is written.

  Raises:
    UserError: if something that the user gave is wrong.
  """
  family.check_config(config)
  started = workdir_lib.check(
    workdir,
    config,
    family.default_config(),
    fixed_steps=family.has_fixed_steps(config),
  )
  seeds = seeds_lib.create(config.seed, family.num_seeds(config))
  _check_devices(config, seeds.num)
  weights = None
  if init_from and not started:
    if seeds.num > 1:
      raise UserError(
        f'--init_from={init_from}: starts one run, and config.num_seeds asks '
        f'for {seeds.num}'
      )
    weights = _read_weights(family, init_from)
  source, info = _open_source(family, config, workdir, started)
  model = family.create(config, source.example_shape, source.num_classes)
  if weights is not None:
    _check_weights(family, model, weights, init_from)
  parallel = seeds.parallel(config.parallelism)
  task = tasks.create(
    family, config, model, source, info, weights, seeds, parallel
  )
  introduction = _introduction(
    config, source, seeds.num, parallel.num_devices, workdir
  )
  return _Prepared(task, parallel, seeds.roots(), introduction)
