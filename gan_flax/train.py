"""Trains a GAN in a workdir."""

import functools
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax import runs
from common_flax import sources
from common_flax.alarms import Response
from common_flax.config import require
from common_flax.data.source import Source
from common_flax.data.worlds import World
from common_flax.data.worlds import WORLDS
from common_flax.family import Family
from common_flax.family import Parts
from common_flax.nn.minibatch import GROUP_SIZE
from gan_flax import config as gan_config
from gan_flax import examples
from gan_flax import generation
from gan_flax import steps
from gan_flax import watch
from gan_flax import world_pictures
from gan_flax.state import create_gan
from gan_flax.state import exported_generator
from gan_flax.state import GAN
from gan_flax.state import GANState
from gan_flax.state import GENERATOR
from gan_flax.state import init_state
from gan_flax.trained import Sampler

# The grid of images; of a conditional GAN each row is of one class.
_COLUMNS = 8
_NUM_ROWS = 8
_MAX_CLASSES = 10
_NUM_POINTS = 1000
_NUM_REAL = 500  # of the examples that the watch compares samples with


def _curves(gan: GAN) -> dict[str, tuple[str, ...]]:
  if gan.loss.is_classifier:
    opinion = 'discriminator\'s probability of "real"'
    names = ('real_probability', 'fake_probability')
  else:
    opinion = "discriminator's score"
    names = ('real_score', 'fake_score')
  return {
    'loss': ('d_loss', 'g_loss'),
    opinion: names,
    'watch': ('diversity', 'latent_response', 'd_accuracy'),
  }


def _samples(
  gan: GAN,
  num: int,
  labels: np.ndarray | None,
  root: jax.Array,
  state: GANState,
) -> np.ndarray:
  """Samples of the averaged generator at latents that never change."""
  statistics = generation.fixed_statistics(
    gan, state.ema_params, prng.stream(root, 'statistics')
  )
  latents = examples.draw_latents(gan, prng.stream(root, 'preview'), num)
  return np.asarray(
    generation.generate(gan, state.ema_params, statistics, latents, labels)
  )


def _draw_images(gan: GAN, root: jax.Array, state: GANState) -> np.ndarray:
  num_rows, labels = _NUM_ROWS, None
  if gan.is_conditional:
    num_rows = min(gan.num_classes, _MAX_CLASSES)
    labels = np.repeat(np.arange(num_rows), _COLUMNS)
  samples = _samples(gan, num_rows * _COLUMNS, labels, root, state)
  return images_lib.grid(samples, _COLUMNS)


def _draw_samples(
  config: ConfigDict, gan: GAN, root: jax.Array, state: GANState, num: int
) -> np.ndarray:
  """Samples to be judged, uint8 [num, H, W, C]; each class as often."""
  statistics = generation.fixed_statistics(
    gan, state.ema_params, prng.stream(root, 'statistics')
  )
  sampler = Sampler(
    gan, state.ema_params, statistics, config, config.seed, int(state.step)
  )
  labels = np.arange(num) % gan.num_classes if gan.is_conditional else None
  key = prng.stream(root, 'evaluate')
  return np.asarray(sampler.generate(key, num, label=labels))


def _draw_points(
  gan: GAN, world: World, root: jax.Array, state: GANState
) -> np.ndarray:
  labels = generation.class_by_number(gan, np.arange(_NUM_POINTS))
  samples = _samples(gan, _NUM_POINTS, labels, root, state)
  if gan.is_conditional:  # an opinion for each class, and one picture
    return world_pictures.picture(world, samples)
  opinion = functools.partial(generation.opinion, gan, state.discriminator)
  return world_pictures.picture(world, samples, opinion, gan.loss.is_classifier)


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


def _check_groups(config: ConfigDict) -> None:
  """Refuses batches that do not split into packs and groups on each device."""
  num_devices = jax.device_count() if config.num_seeds == 1 else 1
  group_size = GROUP_SIZE if config.model.minibatch_deviation else 1
  divisor = config.model.packing * group_size * num_devices
  require(
    config.batch_size % divisor == 0,
    config,
    'batch_size',
    f'must be divisible by {divisor}: {config.model.packing} (model.packing) '
    f'x {group_size} (model.minibatch_deviation) x {num_devices} (devices)',
  )


def _parts(config: ConfigDict, gan: GAN, source: Source) -> Parts:
  _check_groups(config)
  spread = watch.spread_of(gan, sources.first_examples(source, _NUM_REAL))
  if gan.is_of_points:
    world = WORLDS[config.dataset.name]
    draw = functools.partial(_draw_points, gan, world)
  else:
    draw = functools.partial(_draw_images, gan)
  return Parts(
    step=functools.partial(steps.train_step, gan),
    batches_per_step=config.discriminator_steps,
    draw=draw,
    networks=lambda state: {
      'generator': state.generator.params,
      'discriminator': state.discriminator.params,
    },
    export=lambda state: {GENERATOR: exported_generator(state)},
    curves=_curves(gan),
    headline=('d_loss', 'g_loss', 'd_accuracy', 'diversity'),
    measure=functools.partial(watch.measure, gan, spread),
    judge=functools.partial(watch.judge, is_classifier=gan.loss.is_classifier),
    response=Response(config.on_collapse, config.on_collapse_max_rollbacks),
    is_convolutional=not gan.is_of_points,
    with_labels=gan.is_conditional,
    samples=None
    if gan.is_of_points
    else functools.partial(_draw_samples, config, gan),
  )


FAMILY = Family(
  default_config=gan_config.default,
  check_config=gan_config.check,
  has_fixed_steps=gan_config.has_fixed_steps,
  create=create_gan,
  init_state=init_state,
  weights=_weights,
  with_weights=_with_weights,
  parts=_parts,
  num_seeds=lambda config: config.num_seeds,
)

# (config, workdir, init_from=None, profile=None), see `runs.train`
train = functools.partial(runs.train, FAMILY)
