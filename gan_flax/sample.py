"""Draws samples from a trained generator.

  python -m gan_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--num_samples=64] [--seed=0]
      [--kind=samples|interpolation|walk|projection [--images=FILE|FOLDER]]
      [--seeds=1,5,7-9 | --latents=FILE.npz|FILE.npy] [--frames=25] [--noloop]
      [--truncation=LIMIT] [--label=CLASS,CLASS] [--seed_index=INDEX]
      [--step=STEP] [--noema]

Reads the checkpoint's generator alone, never the discriminator. Writes a grid
(.png, .jpg, .webp), an animation of one sample after another (.gif, .mp4), an
array (.npz, .npy), or a new folder of PNGs. An .npz holds `images` uint8
[N, H, W, C] or `points` float32 [N, 2], and `latents` float32 [N, Z], with a
leading axis of seeds if the run has several and --seed_index selects none. A
conditional generator draws one class per row of 8, all in turn or those of
--label, by name or number; the .npz then also holds `labels` int32 [N] and
`class_names`, and a folder has one sub-folder per class.

--seeds draws sample 0 of each --seed, and --latents the samples of given
latents; a conditional generator then needs a --label, one for all or one for
each, unless the file has `labels`. --kind=walk leads from each of them to the
next, as an animation (.gif, .mp4, .webp) or a grid with a row for each leg.

--kind=projection searches the images nearest to the pictures of --images, and
writes a grid of each beside its projection, or an .npz that --latents takes.

From Python:

  sampler = gan_flax.sample.load('runs/dcgan')
  images = sampler.generate(jax.random.key(0), 16)  # uint8 [16, H, W, C]
  cats = sampler.generate(jax.random.key(0), 16, label='cats')  # or a number
  same = sampler.generate_from(latents)  # floats [N, Z]

Dimensions: S seeds, N samples, H height, W width, C channels, Z latent size.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
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
from common_flax.cli import given_latents
from common_flax.cli import labels as labels_lib
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.cli.given_latents import Given
from common_flax.cli.labels import COLUMNS
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.latents import LatentsOf
from common_flax.progress import track
from gan_flax import config as gan_config
from gan_flax import pictures as world_pictures
from gan_flax import trained
from gan_flax.explorer import projection_command
from gan_flax.trained import load
from gan_flax.trained import Sampler

__all__ = ['load', 'main']

_POINTS_ENDINGS = (*outputs.PICTURES, *outputs.ARRAYS)


@dataclasses.dataclass(frozen=True)
class _Drawn:
  """The samples of all seeds, which are drawn as they are written."""

  samplers: list[Sampler]
  latents_of: list[LatentsOf]  # of each sampler
  num: int  # samples of each sampler
  columns: int | None  # of a grid
  labels: np.ndarray | None  # int32 [num]

  @property
  def leading(self) -> tuple[int, ...]:
    """The leading axes of arrays: [S, N], or [N] of a single sampler."""
    num_seeds = len(self.samplers)
    return (num_seeds, self.num) if num_seeds > 1 else (self.num,)

  def samples(self) -> Iterator[np.ndarray]:
    """Yields the samples of all seeds in chunks."""
    chunks = itertools.chain.from_iterable(
      sampler.chunks_of(latents_of, self.num, self.labels)
      for sampler, latents_of in zip(
        self.samplers, self.latents_of, strict=True
      )
    )
    total = len(self.samplers) * -(-self.num // CHUNK)
    return track(map(jax.device_get, chunks), total, 'Drawing')

  def latents(self) -> Iterator[np.ndarray]:
    """Yields the latents of `samples`, once more."""
    for latents_of in self.latents_of:
      for numbers in chunks_of_numbers(self.num):
        yield np.asarray(latents_of(numbers))[: self.num - numbers[0]]


def _define_flags(values: flags.FlagValues) -> None:
  sample_files.define_flags(
    values,
    [*trained.KINDS, given_latents.WALK, projection_command.KIND],
    'Independent samples, rows of 8 that interpolate between two samples, a '
    'walk from each of --seeds or --latents to the next, a search of --images.',
  )
  given_latents.define_flags(values)
  projection_command.define_flags(values)
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


def _check_output(values: flags.FlagValues, config: ConfigDict) -> str:
  """Checks that the output can hold the requested samples; its ending.

  Raises:
    UserError: naming the flag to change.
  """
  is_of_points = config.dataset.name in WORLDS
  endings = _POINTS_ENDINGS if is_of_points else sample_files.ENDINGS
  ending = outputs.check(values.output, endings)
  animations.check_available(values.output)
  if is_of_points or config.num_seeds == 1 or values.seed_index is not None:
    return ending
  is_animation = values.kind == given_latents.WALK and ending == '.webp'
  if is_animation or ending not in (*outputs.PICTURES, *outputs.ARRAYS):
    raise UserError(
      f'--output={values.output}: a folder or an animation holds one of the '
      f'{config.num_seeds} seeds; add --seed_index, or use FILE.png or FILE.npz'
    )
  return ending


def _columns(
  values: flags.FlagValues,
  config: ConfigDict,
  given: Given | None,
  num: int,
  ending: str,
) -> int | None:
  """Images per row of the grid; None if rows have no meaning.

  Args:
    values: the parsed flags.
    config: of the run.
    given: what --latents or --seeds gives.
    num: samples of each seed of training.
    ending: of the output.

  Raises:
    UserError: if a row would hold images of two seeds of training.
  """
  is_walk = values.kind == given_latents.WALK
  is_conditional = config.model.conditioning != 'none'
  has_rows = is_conditional or values.kind == 'interpolation'
  columns = values.frames if is_walk else COLUMNS if has_rows else None
  is_of_one = config.num_seeds == 1 or values.seed_index is not None
  if is_of_one or config.dataset.name in WORLDS:
    return columns
  if columns is None or (given is not None and num % columns):
    return num  # one row for each seed of training
  if ending in outputs.PICTURES and num % columns:
    raise UserError(
      f'--num_samples={num}: a row would mix images of two seeds; use a '
      f'multiple of {columns}, or add --seed_index'
    )
  return columns


def _labels(
  values: flags.FlagValues, sampler: Sampler, given: Given | None, num: int
) -> np.ndarray | None:
  """The classes of the samples, int32 [num]; None if there are none.

  Raises:
    UserError: if --label names none of the classes, or not as many as there
      are samples.
  """
  if values.label is not None and not values.label:
    raise UserError('--label: is empty; name a class, or drop it')
  known = sampler.gan.num_classes, sampler.class_names
  if given is None:
    return labels_lib.of_flags(*known, values.label, num)
  is_walk = values.kind == given_latents.WALK
  return labels_lib.of_given(*known, given, values.label, num, is_walk)


def _latents_of(
  values: flags.FlagValues,
  truncation: float,
  sampler: Sampler,
  given: Given | None,
) -> LatentsOf:
  """The latents of the samples by number."""
  if given is None:
    key = prng.stream(prng.root_key(values.seed), 'sample')
    return sampler.latents_of(key, values.kind, truncation)
  draw = functools.partial(sampler.latents_of_seeds, truncation=truncation)
  index = sampler.seed - sampler.config.seed
  latents_of = given.latents_of(draw, sampler.gan.dtype, index)
  if values.kind == given_latents.WALK:
    return given_latents.walk(values, latents_of, len(given))
  return latents_of


def _write_images(values: flags.FlagValues, drawn: _Drawn) -> None:
  sampler, output = drawn.samplers[0], values.output
  sample_files.write(
    output,
    drawn.samples(),
    (*drawn.leading, *sampler.gan.example_shape),
    drawn.columns,
    drawn.labels,
    sampler.class_names,
    drawn.latents(),
    given_latents.timing(values),
  )


def _write_points(values: flags.FlagValues, drawn: _Drawn) -> None:
  """Writes points [S, N, 2] to an array, or one picture per seed."""
  points = np.concatenate(list(drawn.samples()))
  sampler = drawn.samplers[0]
  if outputs.ending(values.output) in outputs.ARRAYS:
    latents = np.concatenate(list(drawn.latents()))
    sample_files.write_arrays(
      values.output,
      'points',
      points.reshape(*drawn.leading, -1),
      drawn.labels,
      sampler.class_names,
      latents=latents.reshape(*drawn.leading, -1),
    )
  else:
    world = WORLDS[sampler.config.dataset.name]
    points = points.reshape(len(drawn.samplers), drawn.num, -1)
    pictures = [world_pictures.picture(world, each) for each in points]
    sample_files.write_picture(
      values.output, images_lib.grid(np.stack(pictures))
    )


def _truncation(values: flags.FlagValues, config: ConfigDict) -> float:
  """The value of --truncation.

  Raises:
    UserError: if it has no effect.
  """
  truncation = math.inf if values.truncation is None else values.truncation
  if not truncation > 0:
    raise UserError(f'--truncation={truncation}: must be greater than 0')
  if values.latents is not None:
    commands.refuse_unused(values, 'with --latents; remove it', 'truncation')
  if config.model.latent_distribution == 'uniform' and truncation >= 1:
    reason = 'on latents from U(-1, 1); use a limit below 1'
    commands.refuse_unused(values, reason, 'truncation')
  return truncation


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  given_latents.check_flags(values, 'samples')
  projection_command.check_flags(values)
  workdir = commands.existing_workdir(values)
  config = gan_config.read(workdir)
  if values.kind == projection_command.KIND:
    return projection_command.run(values, workdir, config)
  truncation = _truncation(values, config)
  ending = _check_output(values, config)
  size, num = config.model.latent_size, values.num_samples
  given = given_latents.given(values, size, config.num_seeds)
  if given is not None:
    num = given_latents.num_samples(values, len(given))
  columns = _columns(values, config, given, num, ending)
  samplers = trained.load_all(
    workdir,
    use_ema=values.ema,
    seed_index=values.seed_index,
    step=values.step,
  )
  gan, step = samplers[0].gan, samplers[0].step
  if not gan.is_of_points:
    total = len(samplers) * num
    timing = given_latents.timing(values)
    sample_files.check_size(
      values.output, total, gan.example_shape, columns, timing
    )
  latents_of = [
    _latents_of(values, truncation, sampler, given) for sampler in samplers
  ]
  labels = _labels(values, samplers[0], given, num)
  drawn = _Drawn(samplers, latents_of, num, columns, labels)
  write = _write_points if gan.is_of_points else _write_images
  write(values, drawn)
  kind = 'points' if gan.is_of_points else 'images'
  per_seed = f' from each of {len(samplers)} seeds' if len(samplers) > 1 else ''
  print(f'{num:,} {kind}{per_seed} of step {step:,} in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
