"""The fields of a GAN's configuration, their defaults and their effects."""

from collections.abc import Callable
from typing import Any

from ml_collections import config_dict
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import optimisers
from common_flax.data.worlds import WORLDS
from common_flax.effects import ALWAYS
from common_flax.effects import Condition
from common_flax.effects import Effects
from common_flax.effects import needs
from gan_flax.models import Model
from gan_flax.models import MODELS


def _player() -> ConfigDict:
  """Adam for one player, with the low momentum of Radford et al. (2015)."""
  return optimisers.default(learning_rate=2e-4, b1=0.5, b2=0.999)


def default() -> ConfigDict:
  """Returns every field with its default, locked: DCGAN on the digits."""
  config = config_lib.base()
  config.num_seeds = 1  # runs trained at once: seed, seed + 1, ...
  # Of the moving average: 'warmup' is short; with 'cosine' the half-life grows
  # until num_steps.
  config.ema_schedule = 'warmup'
  config.on_collapse = 'warn'  # or 'stop' or 'rollback', see `gan_flax.watch`
  config.on_collapse_max_rollbacks = 3  # maximum rollbacks before stopping

  config.model = model = ConfigDict()
  model.name = 'dcgan'
  model.latent_size = 100
  model.latent_distribution = 'normal'  # N(0, 1), or 'uniform', U(-1, 1)
  model.base_features = 64  # the paper's widths are 128
  model.kernel_size = 4  # of 'dcgan'; the paper's is 5
  # Size to which the networks pad images and from which they crop them; None
  # for the smallest that they can halve to a map of 4 to 7 pixels.
  model.grid_size = config_dict.placeholder(config_lib.SIZE_TYPE)
  model.blocks_per_stage = 2  # of 'r3gan': residual blocks at each image side
  model.group_size = 16  # of 'r3gan': features in a group of a convolution
  # 'batch', 'layer', 'group' or 'none'; None is the model's default.
  model.generator_norm = config_dict.placeholder(str)
  model.discriminator_norm = 'batch'  # 'batch', 'layer', 'group' or 'none'
  model.spectral_norm = False  # on the discriminator's weights
  model.minibatch_deviation = False  # as a feature of the discriminator
  model.packing = 1  # examples per discriminator input
  model.conditioning = 'none'  # or 'projection', 'concatenation'

  config.loss = loss = ConfigDict()
  loss.name = 'non_saturating'  # see `gan_flax.losses`

  config.penalty = penalty = ConfigDict()  # on the discriminator
  penalty.gradient = 0.0  # λ of WGAN-GP
  penalty.r1 = 0.0  # γ of R1, at real examples
  penalty.r2 = 0.0  # γ of R2, at generated examples
  # Applied every N steps and scaled by N (lazy regularisation).
  penalty.every_steps = 1
  # Share of the weights at num_steps, to which they fall along a cosine.
  penalty.final_share = 1.0
  # Weights are clipped to [-max_weight, max_weight]; None does not clip.
  penalty.max_weight = config_dict.placeholder(float)

  config.augmentation = augmentation = ConfigDict()  # of what the player sees
  augmentation.name = 'diffaugment'  # or 'ada' or 'none'
  augmentation.color = False  # DiffAugment's three distortions
  augmentation.translation = False
  augmentation.cutout = False
  # ADA: its kinds of distortions, see `gan_flax.augmentation.ada`; the mean
  # sign of the discriminator on real images at which their probability stays;
  # and the real images over which it may rise from 0 to 1.
  augmentation.groups = ('blit', 'geometry', 'color')
  augmentation.target = 0.6
  augmentation.speed_images = 500_000

  config.generator = _player()
  config.discriminator = _player()
  config.discriminator_steps = 1  # discriminator updates per generator update
  return config.lock()


def _models(has: Callable[[Model], bool], *neutral: Any) -> Condition:
  """The condition of fields that only some models have."""
  names = [name for name, model in MODELS.items() if has(model)]
  return needs('model.name', *names, neutral=neutral)


def _option(name: str) -> tuple[Condition, ...]:
  return (_models(lambda model: name in model.options),)


_IMAGES = Condition(
  ('dataset.name',), lambda config: config.dataset.name not in WORLDS
)
_DIFFAUGMENT = (_IMAGES, needs('augmentation.name', 'diffaugment'))
_ADA = (needs('augmentation.name', 'ada'),)
_AVERAGED = Condition(
  ('ema_decay',),
  lambda config: config.ema_decay > 0,
  'add --config.ema_decay=0.999',
)
_PENALISED = Condition(
  ('penalty.gradient', 'penalty.r1', 'penalty.r2'),
  lambda config: any(config.penalty[k] for k in ('gradient', 'r1', 'r2')),
  'add --config.penalty.r1=1.0 or another penalty',
)

# When the fields have an effect that are not shared with other families.
EFFECTS: Effects = {
  'num_seeds': ALWAYS,
  'ema_schedule': (_AVERAGED,),
  'on_collapse': ALWAYS,
  'on_collapse_max_rollbacks': (needs('on_collapse', 'rollback'),),
  'model.name': ALWAYS,
  'model.latent_size': ALWAYS,
  'model.latent_distribution': ALWAYS,
  'model.base_features': ALWAYS,
  'model.kernel_size': _option('kernel_size'),
  'model.grid_size': _option('grid_size'),
  'model.blocks_per_stage': _option('blocks_per_stage'),
  'model.group_size': _option('group_size'),
  'model.generator_norm': (_models(lambda model: model.has_norms, 'none'),),
  'model.discriminator_norm': (_models(lambda model: model.has_norms, 'none'),),
  'model.spectral_norm': (_models(lambda model: model.has_norms),),
  'model.minibatch_deviation': (_models(lambda model: model.has_norms),),
  'model.packing': ALWAYS,
  'model.conditioning': ALWAYS,
  'loss.name': ALWAYS,
  'penalty.gradient': ALWAYS,
  'penalty.r1': ALWAYS,
  'penalty.r2': ALWAYS,
  'penalty.every_steps': (_PENALISED,),
  'penalty.final_share': (_PENALISED,),
  'penalty.max_weight': ALWAYS,
  'augmentation.name': ALWAYS,
  'augmentation.color': _DIFFAUGMENT,
  'augmentation.translation': _DIFFAUGMENT,
  'augmentation.cutout': _DIFFAUGMENT,
  'augmentation.groups': _ADA,
  'augmentation.target': _ADA,
  'augmentation.speed_images': _ADA,
  **optimisers.effects('generator'),
  **optimisers.effects('discriminator'),
  'discriminator_steps': ALWAYS,
}
