"""Draws pictures from a trained VAE, or writes the latents of a data set.

  python -m vae_flax.sample --workdir=DIR --output=FILE.png|FILE.npz|FOLDER
      [--kind=prior|reconstruction|interpolation|traversal|manifold|latents]
      [--num_samples=64] [--seed=0] [--split=test] [--step=STEP] [--noema]

  prior           images decoded from draws of z from N(0, I)
  reconstruction  images of the split, each followed by its reconstruction
  interpolation   rows of 8 along the arc between the latents of two images
  traversal       rows of 8 that move one latent from -3 to 3, the most used
                  first; the other latents stay at those of an image
  manifold        a square grid over both latents, if there are 2; the
                  number of samples is a square
  latents         posteriors of the split: FILE.npz has `mean`, `log_var` [N, Z]
                  and `label` [N], and `class_names`; FILE.png plots the means
                  of 2 latents, coloured by class

Images become a grid (.png, .jpg, .webp), an animation of one after another
(.gif, .mp4), an array (.npz, .npy), or a new folder of PNGs.

From Python:

  vae = vae_flax.sample.load('runs/vae')
  images = vae.generate(jax.random.key(0), 16)  # uint8 [16, H, W, C]

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import sys

from absl import flags
import jax
import jax.numpy as jnp
from jax.scipy import stats
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from common_flax import data
from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import plotting
from common_flax.cli import sample_files
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.latents import slerp
from common_flax.progress import track
from vae_flax import generation
from vae_flax import observations
from vae_flax.trained import CHUNK
from vae_flax.trained import load
from vae_flax.trained import TrainedVAE

__all__ = ['KINDS', 'TrainedVAE', 'load', 'main']

_COLUMNS = 8
_REACH = 3.0  # of a traversal, in standard deviations of the prior


@dataclasses.dataclass(frozen=True)
class _Drawing:
  """What every kind of picture is drawn from."""

  trained: TrainedVAE
  root: jax.Array  # key of all random draws, not consumed
  open_source: Callable[[], Source]  # opens the split, if a kind needs it

  def images(self, source: Source, numbers: np.ndarray) -> np.ndarray:
    """Images of the shuffled split by number, which wraps around its length."""
    order = np.random.default_rng(
      np.asarray(jax.random.key_data(self.root))
    ).permutation(len(source))
    chosen = order[numbers % len(source)]
    return np.stack([source[int(i)]['image'] for i in chosen])

  def x(self, images: np.ndarray, numbers: np.ndarray) -> jax.Array:
    """The observations x of images, each drawn from its number's key."""
    key = prng.stream(self.root, 'observe')
    return generation.observe_by_number(
      self.trained.vae, key, jnp.asarray(images), jnp.asarray(numbers)
    )

  def means(self, source: Source, numbers: np.ndarray) -> jax.Array:
    """Posterior means [N, Z] of images by their numbers."""
    x = self.x(self.images(source, numbers), numbers)
    mean, _ = generation.encode(self.trained.vae, self.trained.params, x)
    return mean

  def chunks(self, num: int) -> Iterator[np.ndarray]:
    """Yields the numbers from 0, 64 at a time, until all `num` are included."""
    for start in range(0, num, CHUNK):
      yield np.arange(start, start + CHUNK)


# (drawing, number of images) -> chunks of images uint8 [64, H, W, C]; those
# beyond the number are dropped.
Kind = Callable[[_Drawing, int], Iterator[jax.Array]]


def _prior(drawing: _Drawing, num: int) -> Iterator[jax.Array]:
  return drawing.trained.chunks(prng.stream(drawing.root, 'sample'), num)


def _reconstruction(drawing: _Drawing, num: int) -> Iterator[jax.Array]:
  source = drawing.open_source()
  for places in drawing.chunks(num):
    numbers = places[::2] // 2  # two places per image
    x = drawing.x(drawing.images(source, numbers), numbers)
    vae, params = drawing.trained.vae, drawing.trained.params
    mean, _ = generation.encode(vae, params, x)
    pairs = jnp.stack(
      [images_lib.from_unit(x), generation.generate(vae, params, mean)], axis=1
    )
    yield pairs.reshape(CHUNK, *vae.image_shape)


def _interpolation(drawing: _Drawing, num: int) -> Iterator[jax.Array]:
  source = drawing.open_source()
  for numbers in drawing.chunks(num):
    rows, columns = np.divmod(numbers, _COLUMNS)
    starts = drawing.means(source, 2 * rows)
    ends = drawing.means(source, 2 * rows + 1)
    shares = jnp.asarray(columns / (_COLUMNS - 1), starts.dtype)
    yield drawing.trained.decode(jax.vmap(slerp)(starts, ends, shares))


def _traversal(drawing: _Drawing, num: int) -> Iterator[jax.Array]:
  source = drawing.open_source()
  trained = drawing.trained
  watched = np.arange(min(generation.NUM_WATCHED, len(source)))
  use = generation.latent_use(
    trained.vae,
    trained.params,
    drawing.x(drawing.images(source, watched), watched),
  )
  by_use = np.argsort(-np.asarray(use['kl_per_latent_nats']))
  centre = np.asarray(drawing.means(source, watched[:1]))[0]
  for numbers in drawing.chunks(num):
    rows, columns = np.divmod(numbers, _COLUMNS)
    z = np.tile(centre, (CHUNK, 1))
    latents = by_use[rows % len(by_use)]
    z[np.arange(CHUNK), latents] = _REACH * (2 * columns / (_COLUMNS - 1) - 1)
    yield trained.decode(jnp.asarray(z))


def _manifold(drawing: _Drawing, num: int) -> Iterator[jax.Array]:
  side = _manifold_side(num)
  # Equally spaced in probability under the prior (Kingma & Welling 2013).
  places = stats.norm.ppf((jnp.arange(side) + 0.5) / side)
  for numbers in drawing.chunks(num):
    rows, columns = np.divmod(np.minimum(numbers, side**2 - 1), side)
    # The second latent increases upwards.
    z = jnp.stack([places[columns], places[side - 1 - rows]], axis=1)
    yield drawing.trained.decode(z.astype(drawing.trained.vae.dtype))


def _manifold_side(num: int) -> int:
  return int(np.sqrt(num))


_LATENTS = 'latents'
_LATENTS_ENDINGS = (*outputs.PICTURES, '.npz')
KINDS: dict[str, Kind] = {
  'prior': _prior,
  'reconstruction': _reconstruction,
  'interpolation': _interpolation,
  'traversal': _traversal,
  'manifold': _manifold,
}
# Flags that have no effect on a kind.
_UNUSED = {
  'prior': ('split',),
  'manifold': ('split', 'seed'),
  _LATENTS: ('num_samples',),
}


def _columns(kind: str, num: int) -> int | None:
  """Images per row of the grid; None for a square grid."""
  if kind == 'manifold':
    return _manifold_side(num)
  return None if kind == 'prior' else _COLUMNS


def _check_kind(kind: str, output: str, latent_size: int) -> None:
  """Checks that a picture of two latents has two latents."""
  is_picture = outputs.ending(output) in outputs.PICTURES
  is_plane = kind == 'manifold' or (kind == _LATENTS and is_picture)
  if is_plane and latent_size != 2:
    cure = 'train with --config.model.latent_size=2'
    if kind == _LATENTS:
      cure = f'use --output=FILE.npz, or {cure}'
    raise UserError(
      f'--kind={kind}: a picture needs 2 latents, and this run has '
      f'{latent_size}; {cure}'
    )


def _check_square(kind: str, num: int) -> None:
  """Checks that the images of a manifold fill a square."""
  side = _manifold_side(num)
  if kind == 'manifold' and side**2 != num:
    raise UserError(
      f'--num_samples={num}: a manifold is a square of images; use {side**2} '
      f'or {(side + 1) ** 2}'
    )


def _encode_all(drawing: _Drawing, source: Source) -> dict[str, np.ndarray]:
  """Posteriors and labels of all images, in the order of the source."""
  rows = []
  num_chunks = -(-len(source) // CHUNK)
  for numbers in track(drawing.chunks(len(source)), num_chunks, 'Encoding'):
    examples = [source[int(i)] for i in np.minimum(numbers, len(source) - 1)]
    x = drawing.x(np.stack([e['image'] for e in examples]), numbers)
    mean, log_var = generation.encode(
      drawing.trained.vae, drawing.trained.params, x
    )
    labels = np.array([e['label'] for e in examples], np.int32)
    rows.append({'mean': mean, 'log_var': log_var, 'label': labels})
  return {
    name: np.concatenate([row[name] for row in rows])[: len(source)]
    for name in rows[0]
  }


def _scatter(
  latents: dict[str, np.ndarray], class_names: Sequence[str] | None
) -> np.ndarray:
  """Plots the posterior means [N, 2], coloured by class; uint8 [H, W, 3]."""
  figure = Figure(figsize=(6.4, 6), layout='constrained')
  canvas = FigureCanvasAgg(figure)
  axes = figure.subplots()
  for label in np.unique(latents['label']):
    name = str(label) if label >= 0 else 'no label'
    if class_names is not None and label >= 0:
      name = plotting.plain(class_names[label])
    here = latents['label'] == label
    axes.scatter(
      *latents['mean'][here].T,
      s=6,
      alpha=0.6,
      linewidths=0,
      label=name,
    )
  axes.set_aspect('equal')
  axes.set_xlabel('mean of latent 1')
  axes.set_ylabel('mean of latent 2')
  axes.grid(alpha=0.3)
  figure.legend(loc='outside right center', markerscale=3)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def _write_latents(output: str, drawing: _Drawing, source: Source) -> None:
  """Writes all posteriors to FILE.npz, or plots two latents.

  Raises:
    UserError: if the file cannot be written.
  """
  latents = _encode_all(drawing, source)
  names = data.class_names(source)
  if outputs.ending(output) in outputs.PICTURES:
    sample_files.write_picture(output, _scatter(latents, names))
    return
  if names is not None:
    latents['class_names'] = np.array(names)
  sample_files.write_npz(output, latents)


def _define_flags(values: flags.FlagValues) -> None:
  sample_files.define_flags(values, [*KINDS, _LATENTS], 'See above.')
  flags.DEFINE_string(
    'split',
    'test',
    'Split of the data set whose images are encoded.',
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  reason = f'with --kind={values.kind}; remove it'
  commands.refuse_unused(values, reason, *_UNUSED.get(values.kind, ()))
  workdir = commands.existing_workdir(values)
  is_of_latents = values.kind == _LATENTS
  endings = _LATENTS_ENDINGS if is_of_latents else sample_files.ENDINGS
  outputs.check(values.output, endings)
  animations.check_available(values.output)
  trained = load(workdir, use_ema=values.ema, step=values.step)
  _check_kind(values.kind, values.output, trained.vae.latent_size)
  _check_square(values.kind, values.num_samples)
  config = trained.config

  def open_source() -> Source:
    return observations.prepare_source(
      config, data.load(config.dataset, values.split)
    )

  drawing = _Drawing(trained, prng.root_key(values.seed), open_source)
  if is_of_latents:
    source = open_source()
    _write_latents(values.output, drawing, source)
    print(f'Latents of {len(source):,} images in {values.output}')
    return
  num = values.num_samples
  columns = _columns(values.kind, num)
  sample_files.check_size(values.output, num, trained.vae.image_shape, columns)
  chunks = (
    jax.device_get(chunk)[: num - start]
    for start, chunk in zip(
      range(0, num, CHUNK), KINDS[values.kind](drawing, num), strict=True
    )
  )
  sample_files.write(
    values.output,
    track(chunks, -(-num // CHUNK), 'Drawing'),
    (num, *trained.vae.image_shape),
    columns=columns,
  )
  print(f'{num:,} images of step {trained.step:,} in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
