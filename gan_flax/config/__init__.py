"""The configuration of a GAN: fields, defaults, effects and checks."""

from etils import epath
from ml_collections import ConfigDict

from common_flax import optimisers
from common_flax.workdir import layout as workdir_lib
from gan_flax.config.checks import check
from gan_flax.config.checks import check_groups
from gan_flax.config.fields import default
from gan_flax.config.fields import EFFECTS

__all__ = [
  'EFFECTS',
  'check',
  'check_groups',
  'default',
  'has_fixed_steps',
  'read',
]


def has_fixed_steps(config: ConfigDict) -> bool:
  """Whether a schedule depends on `num_steps`, which then must not change."""
  players = (config.generator, config.discriminator)
  return (
    any(map(optimisers.is_scheduled, players))
    or config.penalty.final_share != 1
    or config.ema_schedule == 'cosine'
  )


def read(workdir: epath.PathLike) -> ConfigDict:
  """Reads and checks the config of the run in a workdir.

  Raises:
    UserError: if the config is missing, unreadable or invalid.
  """
  return workdir_lib.read_config(workdir, default(), check)
