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
  codebook        what each code of the (first) codebook looks like: an image
                  whose cell in the middle has it, and all others the most
                  frequent code of the split, which comes first
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
import numpy as np

from common_flax import data
from common_flax import prng
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cli import labels as labels_lib
from common_flax.cli import outputs
from common_flax.cli import sample_files
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.latents import CHUNK
from common_flax.likelihoods import observations
from common_flax.progress import track
from vq_flax import kinds
from vq_flax.metrics import bound
from vq_flax.prior.trained import load as load_prior
from vq_flax.prior.trained import TrainedPrior
from vq_flax.trained import load
from vq_flax.trained import TrainedVQ

__all__ = ['KINDS', 'TrainedPrior', 'TrainedVQ', 'load', 'load_prior', 'main']

PRIOR = 'prior'
INPAINTING = 'inpainting'
CODEBOOK = 'codebook'
CODES = 'codes'
KINDS = (
  PRIOR,
  'reconstruction',
  'interpolation',
  INPAINTING,
  CODEBOOK,
  CODES,
)
_OF_PRIOR = ('temperature', 'top_p')


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
  columns = None if values.kind == CODEBOOK else kinds.COLUMNS
  num = values.num_samples
  if values.kind == CODEBOOK:
    num = _num_shown(values, trained.vq.quantiser.num_codes)
  images = _DRAWN[values.kind](trained, source, root, num)
  _write(values, trained, images, num, trained.step, columns)


def _num_shown(values: flags.FlagValues, num_codes: int) -> int:
  """The number of codes to show.

  Raises:
    UserError: if more are asked for than there are.
  """
  if values['num_samples'].present and values.num_samples > num_codes:
    raise UserError(
      f'--num_samples={values.num_samples}: there are {num_codes:,} codes; '
      'give fewer'
    )
  return min(values.num_samples, num_codes)


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
  num, labels, columns = values.num_samples, None, kinds.COLUMNS
  if values.kind == INPAINTING:
    source = _open_split(model, values.split)
    images = kinds.inpainting(
      prior, model, source, root, num, values.temperature, values.top_p
    )
  else:
    labels = labels_lib.of_flags(
      prior.num_classes, prior.class_names, values.label, num
    )
    columns = None if labels is None else kinds.COLUMNS
    images = prior.chunks(
      prng.stream(root, 'sample'),
      num,
      labels,
      temperature=values.temperature,
      top_p=values.top_p,
    )
  _write(
    values, model, images, num, prior.step, columns, labels, prior.class_names
  )


def _write(
  values: flags.FlagValues,
  trained: TrainedVQ,
  images: Iterator[jax.Array],
  num: int,
  step: int,
  columns: int | None,
  labels: np.ndarray | None = None,
  class_names: Sequence[str] | None = None,
) -> None:
  """Writes images in chunks; see `sample_files.write`."""
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


_DRAWN = {
  'reconstruction': kinds.reconstructions,
  'interpolation': kinds.interpolation,
  CODEBOOK: kinds.codebook,
}


def _write_codes(
  output: str, trained: TrainedVQ, source: Source, root: jax.Array
) -> None:
  """Writes the codes of all images of a source, in its order."""
  num = len(source)
  key = prng.stream(root, 'observe')
  numbers = np.arange(num, dtype=np.int32)
  rows = bound.encoded(trained, source, key, numbers, 'Encoding')
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
