"""The fields of a GAN's configuration and their defaults."""

from ml_collections import config_dict
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import optimisers


def _player() -> ConfigDict:
  """Adam for one player, with the low momentum of Radford et al. (2015)."""
  return optimisers.default(learning_rate=2e-4, b1=0.5, b2=0.999)


def default() -> ConfigDict:
  """Returns every field with its default, locked: DCGAN on the digits."""
  config = config_lib.base()
  config.num_seeds = 1  # runs trained at once: seed, seed + 1, ...
  config.on_collapse = 'warn'  # or 'stop' or 'rollback', see `gan_flax.watch`
  config.on_collapse_max_rollbacks = 3  # maximum rollbacks before stopping

  config.model = model = ConfigDict()
  model.name = 'dcgan'
  model.latent_size = 100
  model.latent_distribution = 'normal'  # N(0, 1), or 'uniform', U(-1, 1)
  model.base_features = 64  # the paper's widths are 128
  model.kernel_size = 4  # of 'dcgan'; the paper's is 5
  # Side to which the networks pad images; None for dataset.image_size.
  model.grid_size = config_dict.placeholder(int)
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
