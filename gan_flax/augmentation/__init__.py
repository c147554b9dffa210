"""Differentiable distortions of what the discriminator sees.

Given few images, a discriminator memorises them. Distorting both real and
generated images prevents that; the distortions are differentiable, so the
generator still learns to draw undistorted images. `diffaugment` distorts every
image, `ada` as often as the discriminator's overfitting asks for.
"""

from ml_collections import ConfigDict

from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from gan_flax.augmentation.ada import Adaptation
from gan_flax.augmentation.ada import AdaptiveAugmentation
from gan_flax.augmentation.ada import GROUPS
from gan_flax.augmentation.diffaugment import DiffAugment

__all__ = [
  'AUGMENTATIONS',
  'GROUPS',
  'Adaptation',
  'AdaptiveAugmentation',
  'DiffAugment',
  'create',
]

Augmentation = AdaptiveAugmentation | DiffAugment

# The fields of `config.augmentation` that belong to each.
AUGMENTATIONS = {
  'none': (),
  'diffaugment': ('color', 'translation', 'cutout'),
  'ada': ('groups', 'target', 'speed_images'),
}


def create(
  config: ConfigDict, boundary: float | None, axis: BatchAxis = WHOLE_BATCH
) -> Augmentation | None:
  """Creates the augmentation of a run; None if nothing is distorted.

  Args:
    config: a run's checked `config.augmentation`.
    boundary: of the run's `Loss`.
    axis: over which batches are split.
  """
  fields = {name: config[name] for name in AUGMENTATIONS[config.name]}
  if config.name == 'ada':
    return AdaptiveAugmentation(**fields, boundary=boundary, axis=axis)
  return DiffAugment(**fields, axis=axis) if any(fields.values()) else None
