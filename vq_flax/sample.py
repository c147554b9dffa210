"""Draws pictures from a trained model, or writes the codes of a data set.

  python -m vq_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--kind=reconstruction|interpolation|codebook|codes]
      [--num_samples=64] [--seed=0] [--split=test] [--step=STEP] [--noema]

  reconstruction  images of the split, each followed by its reconstruction
  interpolation   rows of 8 on the line between the cells of two images, each
                  quantised anew
  codebook        what each code looks like: an image all of whose cells have
                  it, the most frequent code of the split first
  codes           FILE.npz has the codes of the split, `codes` int32
                  [N, S, T, L], `label` [N] and `class_names`

Images become a grid (.png, .jpg, .webp), an animation of one after another
(.gif, .mp4), an array (.npz, .npy), or a new folder of PNGs.

From Python:

  vq = vq_flax.sample.load('runs/vq')
  codes = vq.encode(jax.random.key(0), images)  # int32 [N, S, T, L]
  same = vq.decode(codes)  # uint8 [N, H, W, C]

Dimensions: N images, S and T sides of the grid of cells, L codes of a cell, K
codes there are.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import sys

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.data.source import Source
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.likelihoods import observations
from common_flax.progress import track
from vq_flax import generation
from vq_flax.metrics import bound
from vq_flax.trained import load
from vq_flax.trained import TrainedVQ

__all__ = ['KINDS', 'TrainedVQ', 'load', 'main']

CODES = 'codes'
KINDS = ('reconstruction', 'interpolation', 'codebook', CODES)
_COLUMNS = 8
_COUNTED = 500  # images of the split that order a codebook


def _define_flags(values: flags.FlagValues) -> None:
  sample_files.define_flags(values, KINDS, 'See above.')
  flags.DEFINE_string(
    'split',
    'test',
    'Split of the data set whose images are encoded.',
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  is_list = values.kind == CODES
  if is_list:
    reason = f'with --kind={values.kind}; remove it'
    commands.refuse_unused(values, reason, 'num_samples')
  workdir = commands.existing_workdir(values)
  outputs.check(values.output, ('.npz',) if is_list else sample_files.ENDINGS)
  animations.check_available(values.output)
  trained = load(workdir, use_ema=values.ema, step=values.step)
  source = observations.prepare_source(
    trained.config, data.load(trained.config.dataset, values.split)
  )
  root = prng.root_key(values.seed)
  if is_list:
    _write_codes(values.output, trained, source, root)
    print(f'Codes of {len(source):,} images in {values.output}')
    return
  num = values.num_samples
  columns = None if values.kind == 'codebook' else _COLUMNS
  shape = (num, *trained.vq.image_shape)
  sample_files.check_size(values.output, num, shape[1:], columns)
  images = _DRAWN[values.kind](trained, source, root, num)
  sample_files.write(
    values.output,
    track(map(jax.device_get, images), -(-num // CHUNK), 'Drawing'),
    shape,
    columns=columns,
  )
  print(f'{num:,} images of step {trained.step:,} in {values.output}')


def _observed(
  trained: TrainedVQ, source: Source, root: jax.Array, numbers: np.ndarray
) -> jax.Array:
  """Observations of images of the split in a random order, by number."""
  seed = np.asarray(jax.random.key_data(root))
  order = np.random.default_rng(seed).permutation(len(source))
  chosen = order[numbers % len(source)]
  images = np.stack([source[int(i)]['image'] for i in chosen])
  key = prng.stream(root, 'observe')
  return generation.observe_by_number(trained.vq, key, images, numbers)


def _reconstructions(
  trained: TrainedVQ, source: Source, root: jax.Array, num: int
) -> Iterator[jax.Array]:
  vq, params = trained.vq, trained.params
  for places in chunks_of_numbers(num):
    x = _observed(trained, source, root, places[::2] // 2)
    decoded = generation.decode(vq, params, generation.encode(vq, params, x))
    pairs = jnp.stack([images_lib.from_unit(x), decoded], axis=1)
    yield pairs.reshape(CHUNK, *vq.image_shape)[: num - places[0]]


def _interpolation(
  trained: TrainedVQ, source: Source, root: jax.Array, num: int
) -> Iterator[jax.Array]:
  vq, params = trained.vq, trained.params
  for places in chunks_of_numbers(num):
    rows, columns = np.divmod(places, _COLUMNS)
    ends = [_observed(trained, source, root, 2 * rows + i) for i in (0, 1)]
    codes = generation.between(
      vq, params, *ends, jnp.asarray(columns / (_COLUMNS - 1), vq.dtype)
    )
    yield generation.decode(vq, params, codes)[: num - places[0]]


def _codebook(
  trained: TrainedVQ, source: Source, root: jax.Array, num: int
) -> Iterator[jax.Array]:
  """Codes of the first place of a cell; the others of the cell have code 0."""
  vq, params = trained.vq, trained.params
  num_images = min(_COUNTED, len(source))
  x = _observed(trained, source, root, np.arange(num_images, dtype=np.int32))
  found = generation.counts(
    generation.encode(vq, params, x), vq.quantiser.num_codes
  )
  by_use = np.argsort(-np.asarray(found[0]), kind='stable')
  for places in chunks_of_numbers(num):
    codes = np.zeros((CHUNK, *vq.grid, vq.quantiser.codes_per_cell), np.int32)
    codes[..., 0] = by_use[places % len(by_use)][:, None, None]
    yield generation.decode(vq, params, codes)[: num - places[0]]


_DRAWN = {
  'reconstruction': _reconstructions,
  'interpolation': _interpolation,
  'codebook': _codebook,
}


def _write_codes(
  output: str, trained: TrainedVQ, source: Source, root: jax.Array
) -> None:
  """Writes the codes of all images of a source, in its order."""
  num = len(source)
  key = prng.stream(root, 'observe')
  rows = bound.encoded(trained, source, key, num, 'Encoding')
  arrays = {
    'codes': np.concatenate([codes for _, codes in rows]),
    'label': np.array([source[i]['label'] for i in range(num)], np.int32),
  }
  class_names = data.class_names(source)
  if class_names is not None:
    arrays['class_names'] = np.array(class_names)
  sample_files.write_npz(output, arrays)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
