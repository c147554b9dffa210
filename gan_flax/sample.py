"""Draws samples from a trained generator.

  python -m gan_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--num_samples=64] [--seed=0] [--kind=samples|interpolation] [--noema]
      [--truncation=LIMIT] [--label=CLASS,CLASS] [--seed_index=INDEX]
      [--step=STEP]

Reads the checkpoint's generator alone, never the discriminator. Writes a grid
(.png, .jpg, .webp), an animation of one sample after another (.gif, .mp4), an
array (.npz, .npy), or a new folder of PNGs. An .npz holds `images` uint8
[N, H, W, C] or `points` float32 [N, 2], with a leading axis of seeds if the run
has several and --seed_index selects none. A conditional generator draws one
class per row of 8, all in turn or those of --label, by name or number; the .npz
then also holds `labels` int32 [N] and `class_names`, and a folder has one
sub-folder per class.

From Python:

  sampler = gan_flax.sample.load('runs/dcgan')
  images = sampler.generate(jax.random.key(0), 16)  # uint8 [16, H, W, C]
  cats = sampler.generate(jax.random.key(0), 16, label='cats')  # or a number

Dimensions: S seeds, N samples, H height, W width, C channels.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import math
import sys

from absl import flags
import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.progress import track
from gan_flax import config as gan_config
from gan_flax import pictures as world_pictures
from gan_flax import trained
from gan_flax.trained import load
from gan_flax.trained import Sampler

__all__ = ['load', 'main']

_POINTS_ENDINGS = (*outputs.PICTURES, *outputs.ARRAYS)


def _define_flags(values: flags.FlagValues) -> None:
  sample_files.define_flags(
    values,
    list(trained.KINDS),
    'Independent samples, or rows of 8 that interpolate between two samples.',
  )
  flags.DEFINE_float(
    'truncation',
    None,
    'Largest absolute value of a latent coordinate; a smaller limit gives '
    'better but less diverse samples.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'label',
    None,
    'Classes to draw from a conditional generator, by name or number, one per '
    'row of 8; by default all in turn.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'seed_index',
    None,
    'Index of the seed to draw, if the run has several; by default all.',
    0,
    flag_values=values,
  )


def _check_output(values: flags.FlagValues, config: ConfigDict) -> None:
  """Checks that the output can hold the requested samples.

  Raises:
    UserError: naming the flag to change.
  """
  is_of_points = config.dataset.name in WORLDS
  endings = _POINTS_ENDINGS if is_of_points else sample_files.ENDINGS
  ending = outputs.check(values.output, endings)
  animations.check_available(values.output)
  if is_of_points or config.num_seeds == 1 or values.seed_index is not None:
    return
  if ending not in (*outputs.PICTURES, *outputs.ARRAYS):
    raise UserError(
      f'--output={values.output}: a folder or an animation holds one of the '
      f'{config.num_seeds} seeds; add --seed_index, or use FILE.png or FILE.npz'
    )
  columns = _columns(values, config)
  if ending in outputs.PICTURES and columns and values.num_samples % columns:
    raise UserError(
      f'--num_samples={values.num_samples}: a row would mix images of two '
      f'seeds; use a multiple of {columns}, or add --seed_index'
    )


def _columns(values: flags.FlagValues, config: ConfigDict) -> int | None:
  """Images per row of the grid; None if rows have no meaning."""
  is_conditional = config.model.conditioning != 'none'
  has_rows = is_conditional or values.kind == 'interpolation'
  return trained.COLUMNS if has_rows else None


def _labels(values: flags.FlagValues, sampler: Sampler) -> np.ndarray | None:
  """The classes of the samples, int32 [N]; None if there are none.

  Raises:
    UserError: if --label names none of the classes.
  """
  if values.label is None:
    return sampler.labels(values.num_samples)
  if not values.label:
    raise UserError('--label: is empty; name a class, or drop it')
  try:
    numbers = sampler.class_numbers(values.label)
  except UserError as error:
    raise UserError(f'--{error}') from error
  return trained.in_rows(values.num_samples, numbers)


def _write_images(
  values: flags.FlagValues,
  samplers: list[Sampler],
  all_chunks: Iterator[np.ndarray],
  labels: np.ndarray | None,
) -> None:
  num, output = values.num_samples, values.output
  seed_axis = (len(samplers),) if len(samplers) > 1 else ()
  columns = _columns(values, samplers[0].config)
  if seed_axis and columns is None:
    columns = num  # one row per seed
  shape = (*seed_axis, num, *samplers[0].gan.example_shape)
  names = samplers[0].class_names
  sample_files.write(output, all_chunks, shape, columns, labels, names)


def _write_points(
  values: flags.FlagValues,
  samplers: list[Sampler],
  all_chunks: Iterator[np.ndarray],
  labels: np.ndarray | None,
) -> None:
  """Writes points [S, N, 2] to an array, or one picture per seed."""
  points = np.concatenate(list(all_chunks))
  points = points.reshape(len(samplers), values.num_samples, -1)
  if outputs.ending(values.output) in outputs.ARRAYS:
    points = points if len(samplers) > 1 else points[0]
    names = samplers[0].class_names
    sample_files.write_arrays(values.output, 'points', points, labels, names)
  else:
    world = WORLDS[samplers[0].config.dataset.name]
    pictures = [world_pictures.picture(world, each) for each in points]
    sample_files.write_picture(
      values.output, images_lib.grid(np.stack(pictures))
    )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  truncation = math.inf if values.truncation is None else values.truncation
  if not truncation > 0:
    raise UserError(f'--truncation={truncation}: must be greater than 0')
  workdir = commands.existing_workdir(values)
  config = gan_config.read(workdir)
  if config.model.latent_distribution == 'uniform' and truncation >= 1:
    reason = 'on latents from U(-1, 1); use a limit below 1'
    commands.refuse_unused(values, reason, 'truncation')
  _check_output(values, config)
  samplers = trained.load_all(
    workdir,
    use_ema=values.ema,
    seed_index=values.seed_index,
    step=values.step,
  )
  gan, step = samplers[0].gan, samplers[0].step
  if not gan.is_of_points:
    total = len(samplers) * values.num_samples
    columns = _columns(values, config)
    sample_files.check_size(values.output, total, gan.example_shape, columns)
  labels = _labels(values, samplers[0])
  key = prng.stream(prng.root_key(values.seed), 'sample')
  num = values.num_samples
  chunks = itertools.chain.from_iterable(
    sampler.chunks(key, num, values.kind, truncation, labels)
    for sampler in samplers
  )
  total = len(samplers) * -(-num // trained.CHUNK)
  chunks = track(map(jax.device_get, chunks), total, 'Drawing')
  write = _write_points if gan.is_of_points else _write_images
  write(values, samplers, chunks, labels)
  kind = 'points' if gan.is_of_points else 'images'
  per_seed = f' from each of {len(samplers)} seeds' if len(samplers) > 1 else ''
  print(f'{num:,} {kind}{per_seed} of step {step:,} in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
