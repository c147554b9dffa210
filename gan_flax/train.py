"""Trains a GAN in a workdir."""

import functools
import json

from etils import epath
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import config as config_lib
from common_flax import data
from common_flax import loop
from common_flax import prng
from common_flax import sharding
from common_flax import terminal
from common_flax.checkpoints import abstract_like
from common_flax.checkpoints import Checkpoints
from common_flax.checkpoints import STATE
from common_flax.config import require
from common_flax.config import UserError
from common_flax.data.batches import image_batches
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


def _read_state(workdir: epath.PathLike) -> GANState:
  """The newest state of another run, as its own config describes it."""
  workdir = epath.Path(workdir)
  config = config_lib.read(workdir / 'config.json', gan_config.default())
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with Checkpoints(workdir / 'checkpoints') as checkpoints:

    def read(step: int) -> GANState:
      gan = create_gan(config, tuple(checkpoints.info(step)['image_shape']))
      init = functools.partial(init_state, gan, prng.root_key(config.seed))
      return checkpoints.restore(step, STATE, abstract_like(init, device))

    step, state = checkpoints.newest(read)
  print(f'Starting from the weights of {workdir} at step {step:,}.')
  return state


def _with_weights(state: GANState, other: GANState) -> GANState:
  """A state with the weights and batch statistics of another."""
  players = {}
  for player in ('generator', 'discriminator'):
    net = getattr(other, player)
    players[player] = getattr(state, player).replace(
      params=net.params, batch_stats=net.batch_stats
    )
  return state.replace(ema_params=other.ema_params, **players)


def _read_weights(
  gan: GAN, root: jax.Array, init_from: epath.PathLike
) -> GANState:
  """The state of another run, if its weights fit this GAN.

  Raises:
    UserError: if they do not fit, or there are none.
  """
  other = _read_state(init_from)
  expected = jax.eval_shape(lambda: init_state(gan, root))
  merged = _with_weights(expected, other)
  if jax.tree.map(jnp.shape, merged) != jax.tree.map(jnp.shape, expected):
    raise UserError(
      f'--init_from={init_from}: its networks are of other shapes; take its '
      'model, image size and number of channels'
    )
  return other


def _open_workdir(config: ConfigDict, workdir: epath.Path) -> None:
  """Makes the workdir, or checks that it holds a run of this config."""
  path = workdir / 'config.json'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    config_lib.save(config, path)
  except OSError as error:
    raise UserError(
      f'--workdir={workdir}: cannot be written to: {error.strerror}'
    ) from error


def _check_workdir(config: ConfigDict, workdir: epath.Path) -> None:
  path = workdir / 'config.json'
  if path.exists():
    old = config_lib.read(path, gan_config.default())
    fixed_steps = gan_config.has_fixed_steps(config)
    config_lib.check_same_run(old, config, workdir, fixed_steps)


def train(
  config: ConfigDict,
  workdir: epath.PathLike,
  init_from: epath.PathLike | None = None,
) -> int | None:
  """Trains until `config.num_steps`, or goes on where the workdir stands.

  Args:
    config: every field of `gan_flax.config.default`.
    workdir: folder of the run, made if missing.
    init_from: workdir of a run whose weights a new run starts from.

  Returns:
    None once `num_steps` is reached, else the number of the signal that came.

  Raises:
    UserError: if something that the user gave is wrong; nothing is written
      then.
  """
  workdir = epath.Path(workdir)
  gan_config.check(config)
  _check_workdir(config, workdir)
  num_devices = jax.device_count()
  require(
    config.batch_size % num_devices == 0,
    config,
    'batch_size',
    f'must be divisible by the {num_devices} devices',
  )
  dataset = config.dataset
  source = data.load_source(
    dataset.name,
    dataset.split,
    dataset.image_size,
    data_dir=dataset.data_dir,
    path=dataset.path,
    skip_corrupt=dataset.skip_corrupt,
    progress=terminal.track,
  )
  gan = create_gan(config, source.image_shape)
  root = prng.root_key(config.seed)
  parallel = sharding.create(config.parallelism, sharding.create_mesh())
  batches = functools.partial(
    image_batches,
    source,
    seed=config.seed,
    batch_size=config.batch_size,
    batches_per_step=config.discriminator_steps,
    num_steps=config.num_steps,
  )
  other = _read_weights(gan, root, init_from) if init_from else None
  task = loop.Task(
    init=functools.partial(init_state, gan, root),
    adopt=lambda state: _with_weights(state, other) if other else state,
    step=functools.partial(steps.train_step, gan),
    batches=lambda step: batches(start_step=step),
    images_per_step=config.batch_size * config.discriminator_steps,
    draw=functools.partial(_previews, gan, root),
    networks=lambda state: {
      'generator': state.generator.params,
      'discriminator': state.discriminator.params,
    },
    export=lambda state: {GENERATOR: exported_generator(state)},
    info={'image_shape': source.image_shape, 'num_examples': len(source)},
    curves=_CURVES,
  )
  schedule = loop.Schedule(
    num_steps=config.num_steps,
    log_every=config.log_every_steps,
    sample_every=config.sample_every_steps,
    checkpoint_every=config.checkpoint_every_steps,
    keep_checkpoints=config.keep_checkpoints,
  )
  _open_workdir(config, workdir)
  devices = f'{num_devices} x {jax.devices()[0].device_kind}'
  print(f'{len(source):,} images {source.image_shape} of {dataset.name}')
  print(f'Training on {devices} in {workdir}')
  description = f'```\n{json.dumps(config.to_dict(), indent=2)}\n```'
  return loop.train(task, schedule, parallel, workdir, root, description)
