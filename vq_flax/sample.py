"""Draws pictures from a trained model, or writes the codes of a data set.

  python -m vq_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--kind=prior|reconstruction|interpolation|inpainting|codebook|codes]
      [--num_samples=64] [--seed=0] [--split=test] [--label=CLASS,CLASS]
      [--temperature=1.0] [--top_p=1.0] [--step=STEP] [--noema]

  prior           images decoded from codes that the prior draws, see
                  `python -m vq_flax.prior`; of a prior that is told the class,
                  one class per row of 8, all in turn or those of --label
  reconstruction  images of the split, each followed by its reconstruction
  interpolation   rows of 8 on the line between the cells of two images, each
                  quantised anew
  inpainting      rows of a reconstruction, and of 7 images whose upper half has
                  its codes and whose lower half the prior draws
  codebook        what each code looks like: an image all of whose cells have
                  it, the most frequent code of the split first
  codes           FILE.npz has the codes of the split, `codes` int32
                  [N, S, T, L], `label` [N] and `class_names`

Below 1, --temperature makes likely codes likelier. --top_p keeps the likeliest
codes that have this probability together. --step is that of the prior's
checkpoint where a prior draws, else of the model's.

Images become a grid (.png, .jpg, .webp), an animation of one after another
(.gif, .mp4), an array (.npz, .npy), or a new folder of PNGs.

From Python:

  vq = vq_flax.sample.load('runs/vq')
  codes = vq.encode(jax.random.key(0), images)  # int32 [N, S, T, L]
  same = vq.decode(codes)  # uint8 [N, H, W, C]
  prior = vq_flax.sample.load_prior('runs/vq')
  drawn = prior.generate(jax.random.key(0), 16)  # uint8 [16, H, W, C]

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
from common_flax.cli import labels as labels_lib
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.data.source import Source
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.likelihoods import observations
from common_flax.progress import track
from vq_flax import generation
from vq_flax.metrics import bound
from vq_flax.prior.trained import load as load_prior
from vq_flax.prior.trained import TrainedPrior
from vq_flax.trained import load
from vq_flax.trained import TrainedVQ

__all__ = ['KINDS', 'TrainedPrior', 'TrainedVQ', 'load', 'load_prior', 'main']

PRIOR = 'prior'
INPAINTING = 'inpainting'
CODES = 'codes'
KINDS = (
  PRIOR,
  'reconstruction',
  'interpolation',
  INPAINTING,
  'codebook',
  CODES,
)
_OF_PRIOR = ('temperature', 'top_p')
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
  flags.DEFINE_list(
    'label',
    None,
    'Classes to draw, by name or number, one per row of 8, by default all in '
    'turn; for a prior that is told the class.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'temperature',
    1.0,
    "Divides the prior's logits: below 1 for likelier images.",
    0.0,
    100.0,
    flag_values=values,
  )
  flags.DEFINE_float(
    'top_p',
    1.0,
    'Draws from the likeliest codes that have this probability together.',
    0.0,
    1.0,
    flag_values=values,
  )


def _check_flags(values: flags.FlagValues) -> None:
  """Refuses flags that have no effect on the kind.

  Raises:
    UserError: naming the flag.
  """
  kind = values.kind
  reason = f'with --kind={kind}; remove it'
  if kind == CODES:
    commands.refuse_unused(values, reason, 'num_samples')
  if kind == PRIOR:
    commands.refuse_unused(values, reason, 'split')
  else:
    reason = f'with --kind={kind}; use --kind={PRIOR}'
    commands.refuse_unused(values, reason, 'label')
  if kind not in (PRIOR, INPAINTING):
    reason = f'with --kind={kind}; use --kind={PRIOR} or {INPAINTING}'
    commands.refuse_unused(values, reason, *_OF_PRIOR)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  _check_flags(values)
  is_list = values.kind == CODES
  workdir = commands.existing_workdir(values)
  outputs.check(values.output, ('.npz',) if is_list else sample_files.ENDINGS)
  animations.check_available(values.output)
  root = prng.root_key(values.seed)
  if values.kind in (PRIOR, INPAINTING):
    prior = load_prior(workdir, use_ema=values.ema, step=values.step)
    _draw_from_prior(values, prior, root)
    return
  trained = load(workdir, use_ema=values.ema, step=values.step)
  source = _open_split(trained, values.split)
  if is_list:
    _write_codes(values.output, trained, source, root)
    print(f'Codes of {len(source):,} images in {values.output}')
    return
  columns = None if values.kind == 'codebook' else _COLUMNS
  images = _DRAWN[values.kind](trained, source, root, values.num_samples)
  _write(values, trained, images, trained.step, columns)


def _open_split(trained: TrainedVQ, split: str) -> Source:
  """The images of a split, as the model's run has them."""
  return observations.prepare_source(
    trained.config, data.load(trained.config.dataset, split)
  )


def _draw_from_prior(
  values: flags.FlagValues, prior: TrainedPrior, root: jax.Array
) -> None:
  """Draws and writes the kinds that need a prior."""
  model = TrainedVQ(prior.prior.vq, prior.model, prior.config, prior.step)
  num, labels, columns = values.num_samples, None, _COLUMNS
  if values.kind == INPAINTING:
    source = _open_split(model, values.split)
    images = _inpainting(values, prior, model, source, root)
  else:
    labels = labels_lib.of_flags(
      prior.num_classes, prior.class_names, values.label, num
    )
    columns = None if labels is None else _COLUMNS
    images = prior.chunks(
      prng.stream(root, 'sample'),
      num,
      labels,
      temperature=values.temperature,
      top_p=values.top_p,
    )
  _write(values, model, images, prior.step, columns, labels, prior.class_names)


def _write(
  values: flags.FlagValues,
  trained: TrainedVQ,
  images: Iterator[jax.Array],
  step: int,
  columns: int | None,
  labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
) -> None:
  """Writes images in chunks; see `sample_files.write`."""
  num = values.num_samples
  shape = (num, *trained.vq.image_shape)
  sample_files.check_size(values.output, num, shape[1:], columns)
  sample_files.write(
    values.output,
    track(map(jax.device_get, images), -(-num // CHUNK), 'Drawing'),
    shape,
    columns=columns,
    labels=labels,
    class_names=class_names,
  )
  print(f'{num:,} images of step {step:,} in {values.output}')


def _chosen(source: Source, root: jax.Array, numbers: np.ndarray) -> np.ndarray:
  """The places in the split of images in a random order, by number."""
  seed = np.asarray(jax.random.key_data(root))
  order = np.random.default_rng(seed).permutation(len(source))
  return order[numbers % len(source)]


def _observed(
  trained: TrainedVQ, source: Source, root: jax.Array, numbers: np.ndarray
) -> jax.Array:
  """Observations of images of the split in a random order, by number."""
  chosen = _chosen(source, root, numbers)
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


def _inpainting(
  values: flags.FlagValues,
  prior: TrainedPrior,
  model: TrainedVQ,
  source: Source,
  root: jax.Array,
) -> Iterator[jax.Array]:
  """Rows of an image and of 7 others that share its upper codes."""
  vq, num = model.vq, values.num_samples
  is_known = np.zeros((*vq.grid, vq.quantiser.codes_per_cell), bool)
  is_known[: (vq.grid[0] + 1) // 2] = True
  key = prng.stream(root, 'sample')
  for places in chunks_of_numbers(num):
    rows, columns = np.divmod(places, _COLUMNS)
    x = _observed(model, source, root, rows)
    codes = generation.encode(vq, model.params, x)
    labels = None
    if prior.num_classes is not None:
      labels = np.array(
        [source[int(i)]['label'] for i in _chosen(source, root, rows)], np.int32
      )
    drawn = prior.complete(
      key, codes, places, labels, is_known, values.temperature, values.top_p
    )
    is_given = (columns == 0)[:, None, None, None]
    shown = jnp.where(is_given, codes, drawn)
    yield generation.decode(vq, model.params, shown)[: num - places[0]]


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
