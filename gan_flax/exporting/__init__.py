"""The networks of a trained GAN, to export.

Dimensions: N samples, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli.labels import COLUMNS
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.export.parts import Array
from common_flax.export.parts import Exportable
from common_flax.export.parts import label_inputs
from common_flax.export.parts import Part
from common_flax.training import seeds as seeds_lib
from common_flax.workdir import layout as workdir_lib
from common_flax.workdir.checkpoints import STATE
from gan_flax import config as gan_config
from gan_flax import pictures
from gan_flax import trained
from gan_flax.gan import create_gan
from gan_flax.gan import GAN
from gan_flax.state import NetState
from gan_flax.trained import Sampler

PARTS = ('generator', 'discriminator')
_NUM_SAMPLES = 64
_NORM_NOTE = 'Batch norm has fixed statistics, estimated for these weights.'


def load(
  workdir: epath.PathLike,
  names: Sequence[str],
  *,
  use_ema: bool = True,
  seed_index: int | None = None,
  step: int | None = None,
) -> Exportable:
  """Loads the networks of a run.

  Args:
    workdir: folder of the run.
    names: which of PARTS.
    use_ema: whether the generator's weights are their moving average.
    seed_index: index of the seed; needed if the run has several.
    step: of the checkpoint; None for the newest.

  Raises:
    UserError: if the run holds no such network, or it cannot be exported.
  """
  config = gan_config.read(workdir)
  if config.num_seeds > 1 and seed_index is None:
    raise UserError(
      f'--seed_index: missing; the run has {config.num_seeds} seeds, choose '
      f'one from 0 to {config.num_seeds - 1}'
    )
  sampler = trained.load(
    workdir, use_ema=use_ema, seed_index=seed_index or 0, step=step
  )
  made = {
    'generator': lambda: generator(sampler),
    'discriminator': lambda: discriminator(
      sampler, _discriminator_net(sampler, workdir)
    ),
  }
  gan = sampler.gan
  drawn = 'N(0, 1)' if gan.latent_distribution == 'normal' else 'U(-1, 1)'
  return Exportable(
    kind='GAN',
    config=config,
    step=sampler.step,
    seed=sampler.seed,
    parts={name: made[name]() for name in names},
    latents=f'{gan.latent_size} independent values from {drawn}',
    samples=_picture(sampler),
    class_names=sampler.class_names,
    note=_NORM_NOTE if sampler.batch_stats else '',
  )


def _examples(gan: GAN) -> Array:
  """What the generator makes and the discriminator sees."""
  if gan.is_of_points:
    return Array(gan.example_shape, 'points in the plane')
  return Array(
    gan.example_shape,
    'images [batch, height, width, channels], -1 black to 1 white; '
    'some networks go beyond, so clip',
  )


def generator(sampler: Sampler) -> Part:
  """The generator at inference."""
  gan = sampler.gan
  # In float32 wherever it trained in bfloat16, which not all runtimes have.
  network = gan.generator.clone(dtype=jnp.float32)

  def function(weights: Any, latents: jax.Array, *labels: jax.Array):
    return network.apply(weights, latents, *labels, train=False)

  return Part(
    function,
    {'params': sampler.params, 'batch_stats': sampler.batch_stats},
    {
      'latents': Array((gan.latent_size,), 'latents, see below'),
      **label_inputs(gan.num_classes),
    },
    {'points' if gan.is_of_points else 'images': _examples(gan)},
  )


def _discriminator_net(sampler: Sampler, workdir: epath.PathLike) -> NetState:
  """Restores the discriminator, which sampling does not need."""
  config = sampler.config
  root = seeds_lib.root_keys(config.seed, config.num_seeds)
  _, _, state = workdir_lib.restore(
    workdir,
    STATE,
    config,
    create_gan,
    lambda gan: trained.init_states(gan, root),
    sampler.step,
  )
  index = sampler.seed - config.seed
  return seeds_lib.member(state.discriminator, index, config.num_seeds)


def discriminator(sampler: Sampler, net: NetState) -> Part:
  """The discriminator at inference.

  Args:
    sampler: of the same run.
    net: its weights.

  Raises:
    UserError: if it judges several examples at once.
  """
  gan = sampler.gan
  is_of_groups = getattr(gan.discriminator, 'has_minibatch_deviation', False)
  if gan.packing > 1 or is_of_groups:
    raise UserError(
      '--parts=discriminator: this one judges several examples at once and '
      'cannot be exported; leave it out'
    )
  network = gan.discriminator.clone(dtype=jnp.float32)

  def function(weights: Any, examples: jax.Array, *labels: jax.Array):
    return network.apply(weights, examples, *labels, train=False)

  return Part(
    function,
    {'params': net.params, 'batch_stats': net.batch_stats},
    {
      'points' if gan.is_of_points else 'images': _examples(gan),
      **label_inputs(gan.num_classes),
    },
    {'logits': Array((), 'logits; higher for what looks real')},
  )


def _picture(sampler: Sampler) -> np.ndarray:
  """What `sample` draws by default, uint8 [H, W, C]."""
  gan = sampler.gan
  key = prng.stream(prng.root_key(0), 'sample')
  if gan.is_of_points:
    world = WORLDS[sampler.config.dataset.name]
    return pictures.picture(world, np.asarray(sampler.generate(key, 1000)))
  images = np.asarray(sampler.generate(key, _NUM_SAMPLES))
  return images_lib.grid(images, COLUMNS)
