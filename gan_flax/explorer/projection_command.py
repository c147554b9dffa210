"""`gan_flax.sample --kind=projection`: pictures searched in a generator."""

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from common_flax import data
from common_flax import prng
from common_flax.cli import commands
from common_flax.cli import given_pictures
from common_flax.cli import labels as labels_lib
from common_flax.cli import outputs
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.explore import projection_files
from common_flax.explore.projection_files import KIND
from gan_flax import trained
from gan_flax.explorer.projecting import projector
from gan_flax.trained import Sampler


def define_flags(values: flags.FlagValues) -> None:
  """Defines --images."""
  flags.DEFINE_string(
    'images',
    None,
    f'Pictures to search with --kind={KIND}: an image file, a folder of them, '
    'or an .npz of images.',
    flag_values=values,
  )


def check_flags(values: flags.FlagValues) -> None:
  """Checks that --images is there if, and only if, it has an effect.

  Raises:
    UserError: naming a flag that is missing or has no effect.
  """
  if values.kind != KIND:
    reason = f'without --kind={KIND}; add it'
    commands.refuse_unused(values, reason, 'images')
    return
  if not values.images:
    raise UserError(
      f'--kind={KIND}: has no pictures to search; add --images=FILE or FOLDER'
    )
  reason = f'with --kind={KIND}; remove it'
  commands.refuse_unused(values, reason, 'num_samples', 'truncation')


def run(
  values: flags.FlagValues, workdir: epath.Path, config: ConfigDict
) -> None:
  """Searches the pictures of --images, and writes what was found.

  Raises:
    UserError: naming a flag or a file.
  """
  if config.dataset.name in WORLDS:
    raise UserError(
      f'--kind={KIND}: searches pictures, and this run draws points'
    )
  if config.num_seeds > 1 and values.seed_index is None:
    raise UserError(
      f'--kind={KIND}: searches one generator, and the run has '
      f'{config.num_seeds}; add --seed_index'
    )
  outputs.check(values.output, projection_files.ENDINGS)
  (sampler,) = trained.load_all(
    workdir,
    use_ema=values.ema,
    seed_index=values.seed_index,
    step=values.step,
  )
  label = _label(values, sampler)
  pictures, names = given_pictures.read(
    values.images,
    config.dataset.image_size,
    sampler.gan.example_shape[-1],
    data.rendering_of(config.dataset),
  )
  projection_files.check_size(values.output, pictures)
  key = prng.stream(prng.root_key(values.seed), 'sample')
  found = projector(sampler).project(key, pictures, label)
  projection_files.write(
    values.output, pictures, names, found, sampler.class_names
  )


def _label(values: flags.FlagValues, sampler: Sampler) -> int | None:
  """The class to search; None for all, or if there are none."""
  if values.label is None:
    return None
  if len(values.label) != 1:
    raise UserError(
      f'--label={",".join(values.label)}: --kind={KIND} searches one class, or '
      'all without --label'
    )
  numbers = labels_lib.of_flags(
    sampler.gan.num_classes, sampler.class_names, values.label, 1
  )
  return int(numbers[0])
