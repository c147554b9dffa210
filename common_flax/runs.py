"""Runs: from a config and a workdir to a training that starts or goes on.

What has one right answer whatever is trained: the order of the checks, so that
nothing is written before all of them have passed; the data; the weights of
another run; what is restored from a workdir.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Any

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import config as config_lib
from common_flax import evaluation
from common_flax import loop
from common_flax import prng
from common_flax import references
from common_flax import seeds as seeds_lib
from common_flax import sharding
from common_flax import sources
from common_flax import workdir as workdir_lib
from common_flax.alarms import Judge
from common_flax.alarms import Response
from common_flax.alarms import WARN
from common_flax.checkpoints import STATE
from common_flax.config import require
from common_flax.config import require_one_of
from common_flax.config import UserError
from common_flax.data.batches import Batch
from common_flax.data.batches import example_batches
from common_flax.data.batches import Labelled
from common_flax.data.source import Source
from common_flax.evaluation import Protocol
from common_flax.seeds import Seeds
from common_flax.speed import count_flops
from common_flax.speed import matmul_flops_per_second
from common_flax.speed import Speed
from common_flax.task import Schedule
from common_flax.task import Task

Model = Any  # a frozen dataclass of all that is static
State = Any  # a pytree of all that changes, with the field `step`
Shape = tuple[int, ...]  # of an example: (H, W, C), or (2,)


@dataclasses.dataclass(frozen=True)
class Parts:
  """What one training consists of beside the things of every run."""

  step: sharding.Step
  batches_per_step: int
  draw: Callable[[jax.Array, State], np.ndarray]  # (root, state) -> picture
  # See task.Task for all below.
  networks: Callable[[State], Mapping[str, Any]]
  export: Callable[[State], Mapping[str, Any]]
  curves: Mapping[str, Sequence[str]]
  headline: Sequence[str]
  measure: Callable[[jax.Array, State], Mapping[str, Any]]  # root, state
  judge: Judge
  response: Response = WARN
  is_convolutional: bool = True
  with_labels: bool = False  # batches are Labelled
  # (root, state, N) -> uint8 [N, H, W, C], to be judged; None of points
  samples: Callable[[jax.Array, State, int], np.ndarray] | None = None
  as_seen: Callable[[Source], Source] = lambda source: source  # by the model


@dataclasses.dataclass(frozen=True)
class Family:
  """A family of models, as functions."""

  default_config: Callable[[], ConfigDict]
  check_config: Callable[[ConfigDict], None]  # raises a UserError
  has_fixed_steps: Callable[[ConfigDict], bool]  # a schedule needs num_steps
  create: Callable[[ConfigDict, Shape, int | None], Model]  # None: no labels
  init_state: Callable[[Model, jax.Array], State]  # of a root key
  weights: Callable[[State], Any]  # all that a new run may take over
  with_weights: Callable[[State, Any], State]
  parts: Callable[[ConfigDict, Model, Source], Parts]
  prepare_source: Callable[[ConfigDict, Source], Source] = (
    lambda config, source: source
  )
  num_seeds: Callable[[ConfigDict], int] = lambda config: 1  # trained at once


def _read_weights(family: Family, workdir: epath.PathLike) -> Any:
  """The weights of another run.

  Raises:
    UserError: if the workdir holds no run or no checkpoint.
  """
  config = workdir_lib.read_config(workdir, family.default_config())
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


def _measure_speed(
  config: ConfigDict,
  task_step: sharding.Step,
  batches_per_step: int,
  init: Callable[[], State],
  source: Source,
  with_labels: bool,
  seeds: Seeds,
  num_devices: int,
) -> Speed:
  axes = seeds.batch_shape(batches_per_step, config.batch_size)
  batch = jax.ShapeDtypeStruct((*axes, *source.example_shape), source.dtype)
  if with_labels:
    batch = Labelled(batch, jax.ShapeDtypeStruct(axes, np.int32))
  flops = count_flops(task_step, jax.eval_shape(init), batch, seeds.roots())
  matmul_rate = matmul_flops_per_second(np.dtype(config.compute_dtype))
  return Speed(
    images_per_step=math.prod(axes),
    flops_per_step=flops,
    matmul_flops_per_second=matmul_rate * num_devices,
  )


def _create_task(
  family: Family,
  config: ConfigDict,
  model: Model,
  source: Source,
  info: Mapping[str, Any],
  weights: Any | None,
  seeds: Seeds,
) -> Task:
  parts = family.parts(config, model, source)
  step = seeds.step(parts.step)

  def init() -> State:
    return seeds.init(functools.partial(family.init_state, model))

  def adopt(state: State) -> State:
    return state if weights is None else family.with_weights(state, weights)

  curves = dict(parts.curves)
  if config.evaluate_every_steps:
    curves['evaluation'] = config.evaluation_metrics

  def batches(start_step: int) -> Iterator[Batch]:
    return seeds.batches(
      lambda seed: example_batches(
        source,
        seed=seed,
        batch_size=config.batch_size,
        batches_per_step=parts.batches_per_step,
        start_step=start_step,
        num_steps=config.num_steps,
        with_labels=parts.with_labels,
      )
    )

  return Task(
    init=init,
    adopt=adopt,
    step=step,
    batches=batches,
    # Once, though a run that goes back asks for it again.
    speed=functools.cache(
      functools.partial(
        _measure_speed,
        config,
        step,
        parts.batches_per_step,
        init,
        source,
        parts.with_labels,
        seeds,
      )
    ),
    draw=functools.partial(seeds.draw, parts.draw),
    measure=functools.partial(seeds.measure, parts.measure),
    judge=parts.judge,
    response=parts.response,
    networks=lambda state: parts.networks(seeds.member(state, 0)),
    export=parts.export,
    info=info,
    curves=curves,
    headline=parts.headline,
    examples=_kind(source),
    is_convolutional=parts.is_convolutional,
    evaluate=_evaluation(config, parts, source, seeds),
    decisive_metric=config.evaluation_metrics[0],
  )


def _evaluation(
  config: ConfigDict, parts: Parts, source: Source, seeds: Seeds
) -> Callable[[State], Mapping[str, float]] | None:
  """What judges samples now and then, if that is asked for.

  Raises:
    UserError: if there is nothing to judge, or nothing to judge with.
  """
  if not config.evaluate_every_steps:
    return None
  require(
    parts.samples is not None and seeds.num == 1,
    config,
    'evaluate_every_steps',
    'is for images, of one seed; leave it at 0',
  )
  choices = (references.AUTO, *references.FEATURES)
  require_one_of(config, 'evaluation_features', choices)
  require_one_of(config, 'evaluation_resize', references.RESIZES)
  metrics = references.metrics_in_training(config.evaluation_metrics)
  protocol = Protocol(metrics, evaluation.DEFAULT_NEIGHBOURS)
  eyes = references.Eyes(
    config.evaluation_features,
    config.evaluation_inception_weights,
    config.evaluation_resize,
  )
  reference = references.of_training(
    config.dataset, parts.as_seen(source), eyes, protocol
  )
  root, num = seeds.roots(), config.evaluation_num_samples
  evaluation.check_sizes(protocol, num, len(reference.real))
  return lambda state: reference.judge(parts.samples(root, state, num)).metrics


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


def _check_devices(config: ConfigDict, num_seeds: int) -> None:
  num_devices = jax.device_count()
  # Several runs are split over the devices, not their batches.
  require(
    num_seeds > 1 or config.batch_size % num_devices == 0,
    config,
    'batch_size',
    f'must be divisible by the {num_devices} devices',
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


def _kind(source: Source) -> str:
  return 'images' if len(source.example_shape) == 3 else 'points'


def _introduce(
  config: ConfigDict,
  source: Source,
  num_seeds: int,
  num_devices: int,
  workdir: epath.PathLike,
) -> None:
  devices = f'{num_devices} x {jax.devices()[0].device_kind}'
  shape = source.example_shape
  print(f'{len(source):,} {_kind(source)} {shape} of {config.dataset.name}')
  if num_seeds > 1:
    last = config.seed + num_seeds - 1
    print(f'{num_seeds} runs at once, of the seeds {config.seed} to {last}')
  print(f'Training on {devices} in {workdir}')


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
  task = _create_task(family, config, model, source, info, weights, seeds)
  workdir_lib.create(workdir, config)
  parallel = seeds.parallel(config.parallelism)
  _introduce(config, source, seeds.num, parallel.num_devices, workdir)
  return loop.train(
    task,
    _schedule(config, profile),
    parallel,
    workdir,
    seeds.roots(),
    f'```\n{config_lib.to_json(config)}```',
  )
