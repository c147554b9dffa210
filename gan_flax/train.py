"""Trains a GAN in a workdir."""

import functools
from typing import Any

from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import config as config_lib
from common_flax import data
from common_flax import loop
from common_flax import prng
from common_flax import sharding
from common_flax import terminal
from common_flax import workdir as workdir_lib
from common_flax.checkpoints import abstract_like
from common_flax.checkpoints import STATE
from common_flax.config import require
from common_flax.config import UserError
from common_flax.data.batches import image_batches
from common_flax.data.source import Source
from common_flax.speed import count_flops
from common_flax.speed import matmul_flops_per_second
from common_flax.speed import Speed
from gan_flax import config as gan_config
from gan_flax import generation
from gan_flax import steps
from gan_flax.state import create_gan
from gan_flax.state import exported_generator
from gan_flax.state import GAN
from gan_flax.state import GANState
from gan_flax.state import GENERATOR
from gan_flax.state import init_state

_NUM_PREVIEWS = 64
_CURVES = {
  'loss (nats)': ('d_loss', 'g_loss'),
  'discriminator\'s probability of "real"': (
    'real_probability',
    'fake_probability',
  ),
}


def _previews(gan: GAN, root: jax.Array, state: GANState) -> np.ndarray:
  """Images of the averaged generator at latents that never change."""
  statistics = generation.fixed_statistics(
    gan, state.ema_params, prng.stream(root, 'statistics')
  )
  latents = steps.draw_latents(gan, prng.stream(root, 'preview'), _NUM_PREVIEWS)
  return np.asarray(
    generation.generate(gan, state.ema_params, statistics, latents)
  )


def _read_weights(workdir: epath.PathLike) -> dict[str, Any]:
  """The weights of another run: all of a state that a new run may take over.

  Raises:
    UserError: if the workdir holds no run or no checkpoint.
  """
  config = workdir_lib.read_config(workdir, gan_config.default())
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with workdir_lib.open_checkpoints(workdir) as checkpoints:

    def read(step: int) -> GANState:
      gan = create_gan(config, tuple(checkpoints.info(step)['image_shape']))
      init = functools.partial(init_state, gan, prng.root_key(config.seed))
      return checkpoints.restore(step, STATE, abstract_like(init, device))

    step, state = checkpoints.newest(read)
  print(f'Starting from the weights of {workdir} at step {step:,}.')
  return _weights(state)


def _weights(state: GANState) -> dict[str, Any]:
  players = {
    player: {'params': net.params, 'batch_stats': net.batch_stats}
    for player, net in (
      ('generator', state.generator),
      ('discriminator', state.discriminator),
    )
  }
  return {'ema_params': state.ema_params, **players}


def _with_weights(state: GANState, weights: dict[str, Any]) -> GANState:
  """A state with other weights and batch statistics."""
  return state.replace(
    generator=state.generator.replace(**weights['generator']),
    discriminator=state.discriminator.replace(**weights['discriminator']),
    ema_params=weights['ema_params'],
  )


def _check_weights(
  gan: GAN, weights: dict[str, Any], init_from: epath.PathLike
) -> None:
  """Refuses weights that are not those of this GAN's networks."""
  expected = _weights(jax.eval_shape(lambda: init_state(gan, prng.root_key(0))))

  def kinds(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

  if kinds(weights) != kinds(expected):
    raise UserError(
      f'--init_from={init_from}: its networks are of other shapes or types; '
      'take its model, compute_dtype, image size and number of channels'
    )


def _load_source(dataset: ConfigDict) -> Source:
  return data.load_source(
    dataset.name,
    dataset.split,
    dataset.image_size,
    data_dir=dataset.data_dir,
    path=dataset.path,
    skip_corrupt=dataset.skip_corrupt,
    progress=terminal.track,
  )


def _measure_speed(config: ConfigDict, gan: GAN) -> Speed:
  shape = (config.discriminator_steps, config.batch_size, *gan.image_shape)
  root = prng.root_key(config.seed)
  flops = count_flops(
    functools.partial(steps.train_step, gan),
    jax.eval_shape(functools.partial(init_state, gan, root)),
    jax.ShapeDtypeStruct(shape, np.uint8),
    root,
  )
  matmul_rate = matmul_flops_per_second(np.dtype(config.compute_dtype))
  return Speed(
    images_per_step=config.batch_size * config.discriminator_steps,
    flops_per_step=flops,
    matmul_flops_per_second=matmul_rate * jax.device_count(),
  )


def _create_task(
  config: ConfigDict,
  gan: GAN,
  source: Source,
  info: dict[str, Any],
  weights: dict[str, Any] | None,
) -> loop.Task:
  """What the loop has to know of training this GAN."""
  root = prng.root_key(config.seed)
  return loop.Task(
    init=functools.partial(init_state, gan, root),
    adopt=lambda state: _with_weights(state, weights) if weights else state,
    step=functools.partial(steps.train_step, gan),
    batches=lambda start_step: image_batches(
      source,
      seed=config.seed,
      batch_size=config.batch_size,
      batches_per_step=config.discriminator_steps,
      start_step=start_step,
      num_steps=config.num_steps,
    ),
    speed=functools.partial(_measure_speed, config, gan),
    draw=functools.partial(_previews, gan, root),
    networks=lambda state: {
      'generator': state.generator.params,
      'discriminator': state.discriminator.params,
    },
    export=lambda state: {GENERATOR: exported_generator(state)},
    info=info,
    curves=_CURVES,
  )


def train(
  config: ConfigDict,
  workdir: epath.PathLike,
  init_from: epath.PathLike | None = None,
  profile: range | None = None,
) -> int | None:
  """Trains until `config.num_steps`, or goes on where the workdir stands.

  Args:
    config: every field of `gan_flax.config.default`.
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
  gan_config.check(config)
  started = workdir_lib.check(
    workdir,
    config,
    gan_config.default(),
    fixed_steps=gan_config.has_fixed_steps(config),
  )
  num_devices = jax.device_count()
  require(
    config.batch_size % num_devices == 0,
    config,
    'batch_size',
    f'must be divisible by the {num_devices} devices',
  )
  weights = _read_weights(init_from) if init_from and not started else None
  source = _load_source(config.dataset)
  info = {'image_shape': source.image_shape, 'num_examples': len(source)}
  if started:
    with workdir_lib.open_checkpoints(workdir) as checkpoints:
      checkpoints.check_info(info)
  gan = create_gan(config, source.image_shape)
  if weights:
    _check_weights(gan, weights, init_from)
  task = _create_task(config, gan, source, info, weights)
  schedule = loop.Schedule(
    num_steps=config.num_steps,
    log_every=config.log_every_steps,
    sample_every=config.sample_every_steps,
    checkpoint_every=config.checkpoint_every_steps,
    keep_checkpoints=config.keep_checkpoints,
    steps_per_call=config.steps_per_call,
    profile=profile,
  )
  parallel = sharding.create(config.parallelism, sharding.create_mesh())
  workdir_lib.create(workdir, config)
  name = config.dataset.name
  devices = f'{num_devices} x {jax.devices()[0].device_kind}'
  print(f'{len(source):,} images {source.image_shape} of {name}')
  print(f'Training on {devices} in {workdir}')
  return loop.train(
    task,
    schedule,
    parallel,
    workdir,
    prng.root_key(config.seed),
    f'```\n{config_lib.to_json(config)}```',
  )
