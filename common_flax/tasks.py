"""Makes the task of a run out of the parts that its family gives."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import functools
import math
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict
import numpy as np

from common_flax import evaluation
from common_flax import memory
from common_flax import processes
from common_flax import references
from common_flax import sharding
from common_flax.config import require
from common_flax.config import require_one_of
from common_flax.config import UserError
from common_flax.data.batches import Batch
from common_flax.data.batches import example_batches
from common_flax.data.batches import Labelled
from common_flax.data.source import Source
from common_flax.evaluation import Protocol
from common_flax.family import Family
from common_flax.family import Model
from common_flax.family import Parts
from common_flax.family import State
from common_flax.seeds import Seeds
from common_flax.speed import count_flops
from common_flax.speed import matmul_flops_per_second
from common_flax.speed import Speed
from common_flax.task import Task


def kind(source: Source) -> str:
  """What a source's examples are called."""
  return 'images' if len(source.example_shape) == 3 else 'points'


def _measure_speed(
  config: ConfigDict,
  step: jax.stages.Wrapped,
  batches_per_step: int,
  init: Callable[[], State],
  source: Source,
  with_labels: bool,
  seeds: Seeds,
  parallel: sharding.Parallel,
) -> Speed:
  axes = seeds.batch_shape(batches_per_step, config.batch_size)
  batch = jax.ShapeDtypeStruct((*axes, *source.example_shape), source.dtype)
  if with_labels:
    batch = Labelled(batch, jax.ShapeDtypeStruct(axes, np.int32))
  # On the mesh, to find the step as training traced it.
  mesh = parallel.state_sharding.mesh
  place = NamedSharding(mesh, PartitionSpec())
  state, batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    (jax.eval_shape(init), batch),
  )
  traced = step.trace(state, batch, seeds.roots(), axis_name=None)
  matmul_rate = matmul_flops_per_second(np.dtype(config.compute_dtype))
  return Speed(
    images_per_step=math.prod(axes),
    flops_per_step=count_flops(traced),
    matmul_flops_per_second=matmul_rate * parallel.num_devices,
  )


def _check_memory(
  config: ConfigDict,
  parts: Parts,
  init: Callable[[], State],
  source: Source,
  seeds: Seeds,
) -> None:
  """Refuses what cannot fit into this machine, whatever else it holds.

  Raises:
    UserError: naming the fields that make it so large.
  """
  leaves = jax.tree.leaves(jax.eval_shape(init))
  axes = seeds.batch_shape(parts.batches_per_step, config.batch_size)
  shape = (config.steps_per_call, *axes, *source.example_shape)
  of_batches = {
    f'config.batch_size={config.batch_size}, over all steps of a call': (
      math.prod(shape) * source.dtype.itemsize
    ),
    **parts.held,
  }
  needed = {
    'config.model': sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves),
    **{k: size // processes.count() for k, size in of_batches.items()},
  }
  total = memory.total_bytes()
  if jax.default_backend() != 'cpu':
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    total = max(total, sum(s.get('bytes_limit', math.inf) for s in stats))
  for name, size in needed.items():
    if size > total:
      raise UserError(
        f'{name}: takes {size / 2**30:,.1f} GiB at least, and there are '
        f'{total / 2**30:,.1f}; make it smaller'
      )


def create(
  family: Family,
  config: ConfigDict,
  model: Model,
  source: Source,
  info: Mapping[str, Any],
  weights: Any | None,
  seeds: Seeds,
  parallel: sharding.Parallel,
) -> Task:
  """The task of a run.

  Args:
    family: what is trained.
    config: of the run, checked.
    model: the family's static part.
    source: what it is trained on.
    info: JSON that checkpoints carry.
    weights: of another run, that this one starts from.
    seeds: of the run.
    parallel: how it runs on the devices.

  Raises:
    UserError: naming a field that does not go with the data.
  """
  parts = family.parts(config, model, source)
  # Traced once, to train and to count its operations, which takes a while.
  step = jax.jit(
    seeds.step(parts.step), static_argnames='axis_name', inline=True
  )

  def init() -> State:
    return seeds.init(functools.partial(family.init_state, model))

  _check_memory(config, parts, init, source, seeds)

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
        rows=parallel.rows(config.batch_size),
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
        parallel,
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
    examples=kind(source),
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
