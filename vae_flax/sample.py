"""Draws pictures from a trained VAE, or writes the latents of a data set.

  python -m vae_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--kind=prior|reconstruction|groups|interpolation|traversal|manifold|
              latents|walk|projection]
      [--prior=trained|mixture] [--prior_components=50] [--temperature=1.0]
      [--num_samples=64] [--seed=0] [--split=test] [--label=CLASS,CLASS]
      [--images=FILE|FOLDER]
      [--seeds=1,5,7-9 | --latents=FILE.npz|FILE.npy] [--frames=25] [--noloop]
      [--step=STEP] [--noema]

  prior           images decoded from draws of z from the prior, from those of
                  --seeds, or from given --latents; --temperature multiplies
                  the prior's deviations. --prior=mixture draws from a mixture
                  of normal distributions that is fitted to the latents of
                  training images
  reconstruction  images of the split, each followed by its reconstruction
  groups          rows of an image and of what 0 to all of the groups of a
                  hierarchy know of it, the top ones first
  interpolation   rows of 8 along the arc between the latents of two images
  traversal       rows of 8 that move one latent from -3 to 3, the most used
                  first; the other latents stay at those of an image
  manifold        a square grid over both latents, if there are 2; the
                  number of samples is a square
  latents         posteriors of the split: FILE.npz has `mean`, `log_var` [N, Z]
                  and `label` [N], and `class_names`; FILE.csv has a line per
                  image; FILE.png plots the means of 2 latents, coloured by
                  class
  walk            from each of --seeds, --latents or --images to the next: an
                  animation (.gif, .mp4, .webp), or a grid with a row per leg
  projection      the images nearest to the pictures of --images, searched from
                  their posterior means and from draws

Images become a grid (.png, .jpg, .webp), an animation of one after another
(.gif, .mp4), an array (.npz, .npy), or a new folder of PNGs. Where images are
decoded from latents, an .npz holds `images` and `latents`, [N, Z].

--images takes pictures of one's own, and makes of them what the run's images
are. A reconstruction is then a grid of pictures above their reconstructions, or
an .npz of both; an interpolation leads from each picture to the next; latents
have the `name` of their picture instead of a label.

A conditional VAE draws one class per row of 8, all in turn or those of --label,
by name or number; an .npz then also holds `labels` int32 [N] and `class_names`.
With --latents, --seeds or --images, --label is their class, or one for each;
walks and interpolations keep one class, that of a row's first image. A manifold
shows one, the first unless --label names another.

From Python:

  vae = vae_flax.sample.load('runs/vae')
  images = vae.generate(jax.random.key(0), 16)  # uint8 [16, H, W, C]
  same = vae.decode(latents)  # floats [N, Z]

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import sys

from absl import flags
import jax
import numpy as np

from common_flax import data
from common_flax import prng
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cli import given_latents
from common_flax.cli import given_pictures
from common_flax.cli import labels as labels_lib
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.cli.given_latents import Given
from common_flax.cli.given_latents import WALK
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.explore import projection_files
from common_flax.latents import given as given_array
from common_flax.likelihoods import observations
from vae_flax.drawing import encoded
from vae_flax.drawing import kinds
from vae_flax.drawing import own
from vae_flax.drawing import writing
from vae_flax.drawing.kinds import Drawing
from vae_flax.drawing.kinds import Drawn
from vae_flax.explorer.projecting import projector
from vae_flax.priors import fitted
from vae_flax.trained import load
from vae_flax.trained import TrainedVAE
from vae_flax.vae import VAE

__all__ = ['KINDS', 'TrainedVAE', 'load', 'main']

KINDS = (
  'prior',
  kinds.RECONSTRUCTION,
  kinds.GROUPS,
  *[*kinds.KINDS][1:],
  encoded.KIND,
  WALK,
  projection_files.KIND,
)
_OF_PRIOR = ('temperature', 'prior', 'prior_components')
# Flags that have no effect on a kind.
_UNUSED = {
  'prior': ('split',),
  'manifold': ('split', 'seed'),
  encoded.KIND: ('num_samples',),
  WALK: ('num_samples', 'split'),
}
# Kinds whose classes --label chooses without --images.
_OF_CLASSES = ('prior', 'manifold', WALK)
# Kinds for which --images has an effect.
_OF_IMAGES = (
  kinds.RECONSTRUCTION,
  'interpolation',
  encoded.KIND,
  WALK,
  projection_files.KIND,
)

# Kinds whose pictures are not all decoded from latents.
_OF_SPLIT = {
  kinds.RECONSTRUCTION: kinds.reconstructions,
  kinds.GROUPS: kinds.from_top_groups,
}


def _check_flags(values: flags.FlagValues) -> None:
  """Checks that every flag has an effect.

  Raises:
    UserError: naming a flag that has none, or that is missing.
  """
  reason = f'with --kind={values.kind}; remove it'
  commands.refuse_unused(values, reason, *_UNUSED.get(values.kind, ()))
  if values.kind not in _OF_IMAGES:
    reason = f'with --kind={values.kind}; use --kind={" or ".join(_OF_IMAGES)}'
    commands.refuse_unused(values, reason, 'images')
  if values.kind != 'prior':
    reason = f'with --kind={values.kind}; use --kind=prior'
    commands.refuse_unused(values, reason, *_OF_PRIOR)
  fitted.check_flags(values)
  if values.kind not in _OF_CLASSES and values.images is None:
    reason = f'with --kind={values.kind}; classes are those of the split'
    commands.refuse_unused(values, reason, 'label')
  if values.label is not None and not values.label:
    raise UserError('--label: is empty; name a class, or drop it')
  given_latents.check_flags(values, 'prior', ('images',))
  for name in ('seeds', 'latents'):
    if values[name].value is not None:
      reason = f'with --{name}; remove one of them'
      commands.refuse_unused(values, reason, 'images', *_OF_PRIOR)
  if values.images is None and values.kind == projection_files.KIND:
    raise UserError(
      f'--kind={values.kind}: has no pictures to search; add --images=FILE or '
      'FOLDER'
    )
  if values.images is not None:
    if not values.images:
      raise UserError('--images: is empty; name a file or a folder')
    reason = 'with --images; remove it'
    commands.refuse_unused(values, reason, 'num_samples', 'split')


def _check_kind(kind: str, output: str, vae: VAE) -> None:
  """Checks that the run has the latents that a picture shows."""
  if kind == kinds.GROUPS and not vae.scales:
    raise UserError(
      f'--kind={kind}: this run has one layer of latents, and no groups; train '
      'with --config.model.name=hierarchical'
    )
  latent_size = vae.latent_size
  is_picture = outputs.ending(output) in outputs.PICTURES
  is_plane = kind == 'manifold' or (kind == encoded.KIND and is_picture)
  if is_plane and latent_size != 2:
    cure = 'train with --config.model.latent_size=2'
    if kind == encoded.KIND:
      cure = f'use --output=FILE.npz, or {cure}'
    raise UserError(
      f'--kind={kind}: a picture needs 2 latents, and this run has '
      f'{latent_size}; {cure}'
    )


def _endings(values: flags.FlagValues) -> Sequence[str]:
  """The endings of files that a kind writes."""
  if values.kind == encoded.KIND:
    return encoded.ENDINGS
  if values.kind == projection_files.KIND:
    return projection_files.ENDINGS
  if values.kind == kinds.RECONSTRUCTION and values.images is not None:
    return own.ENDINGS
  return sample_files.ENDINGS


def _define_flags(values: flags.FlagValues) -> None:
  sample_files.define_flags(values, KINDS, 'See above.')
  given_latents.define_flags(values)
  fitted.define_flags(values)
  flags.DEFINE_float(
    'temperature',
    1.0,
    "Multiplies the prior's deviations: below 1 for images that are more alike "
    'and often look better.',
    0.0,
    100.0,
    flag_values=values,
  )
  flags.DEFINE_list(
    'label',
    None,
    'Classes to draw from a conditional VAE, by name or number, one per row of '
    '8, by default all in turn; or those of --images.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'split',
    'test',
    'Split of the data set whose images are encoded.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'images',
    None,
    'Pictures to encode instead: an image file, a folder of them, or an .npz '
    'of images.',
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  _check_flags(values)
  workdir = commands.existing_workdir(values)
  outputs.check(values.output, _endings(values))
  animations.check_available(values.output)
  trained = load(workdir, use_ema=values.ema, step=values.step)
  _check_kind(values.kind, values.output, trained.vae)
  kinds.check_square(values.kind, values.num_samples)
  root = prng.root_key(values.seed)
  if values.images is not None:
    _draw_own(values, trained, root)
    return

  def open_source() -> Source:
    return observations.prepare_source(
      trained.config, data.load(trained.config.dataset, values.split)
    )

  trained = fitted.with_prior(values, trained)
  drawing = Drawing(
    trained,
    root,
    open_source,
    label=values.label,
    temperature=values.temperature,
  )
  if values.kind == encoded.KIND:
    source = open_source()
    encoded.write(values.output, drawing, source)
    print(f'Latents of {len(source):,} images in {values.output}')
    return
  num = values.num_samples
  if values.kind in _OF_SPLIT:
    images = _OF_SPLIT[values.kind](drawing, num)
    writing.write_images(values, trained, images, num)
    return
  given = given_latents.given(values, trained.vae.latent_size)
  if given is None:
    drawn = kinds.KINDS[values.kind](drawing, num)
  else:
    num = given_latents.num_samples(values, len(given))
    drawn = writing.drawn_of(values, trained, given, num)
  writing.write_drawn(values, trained, drawn, num)


def _draw_own(
  values: flags.FlagValues, trained: TrainedVAE, root: jax.Array
) -> None:
  """Draws from the pictures that --images names."""
  dataset, vae = trained.config.dataset, trained.vae
  is_searched = values.kind == projection_files.KIND
  if not (is_searched or observations.is_random(vae.observe)):
    reason = 'because nothing is drawn at random; remove it'
    commands.refuse_unused(values, reason, 'seed')
  pictures, names = given_pictures.read(
    values.images,
    dataset.image_size,
    vae.image_shape[-1],
    data.rendering_of(dataset),
  )
  labels = _labels_of_own(values, trained, len(pictures))
  source = observations.prepare_source(
    trained.config, data.from_arrays(pictures, labels)
  )
  drawing = Drawing(trained, root, lambda: source, is_in_order=True)
  if values.kind == encoded.KIND:
    encoded.write(values.output, drawing, source, names)
    print(f'Latents of {len(source):,} pictures in {values.output}')
    return
  if values.kind == projection_files.KIND:
    projection_files.check_size(values.output, pictures)
    label, starts = None if labels is None else int(labels[0]), None
    if labels is not None or not vae.is_conditional:
      starts = encoded.encode_all(drawing, source)['mean']
    key = prng.stream(root, 'sample')
    found = projector(trained).project(key, pictures, label, starts)
    projection_files.write(
      values.output, pictures, names, found, trained.class_names
    )
    return
  if values.kind == kinds.RECONSTRUCTION:
    own.write_reconstructions(values.output, drawing, pictures, source, names)
    print(f'{len(source):,} reconstructions in {values.output}')
    return
  given_latents.check_stops(len(source), f'--images={values.images}')
  if values.kind == WALK:
    means = encoded.encode_all(drawing, source)['mean']
    num = given_latents.num_samples(values, len(means))
    latents_of = given_latents.walk(values, given_array(means), len(means))
    drawn = Drawn(latents_of, drawing.labels(source, np.zeros(num, np.int32)))
  else:
    num = kinds.COLUMNS * (len(source) - 1)
    drawn = kinds.KINDS[values.kind](drawing, num)
  writing.write_drawn(values, trained, drawn, num)


def _labels_of_own(
  values: flags.FlagValues, trained: TrainedVAE, num: int
) -> np.ndarray | None:
  """The classes of the pictures of --images, from --label; int32 [num]."""
  if values.kind == projection_files.KIND and values.label is None:
    return None  # all classes are searched
  given = Given(f'--images={values.images}')
  is_of_one = values.kind not in (encoded.KIND, kinds.RECONSTRUCTION)
  known = trained.vae.num_classes, trained.class_names
  return labels_lib.of_given(*known, given, values.label, num, is_of_one)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
