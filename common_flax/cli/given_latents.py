"""Latents that a user gives to a command: by seeds, or in a file.

  --seeds=1,5,7-9     sample 0 of each --seed
  --latents=FILE.npz  the array `latents`, as the command writes it
  --latents=FILE.npy  an array of latents
  --kind=walk         an animation from each of them to the next

Dimensions: S seeds of training, N latents, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import os
import re

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import files
from common_flax import latents as latents_lib
from common_flax.cli import animations
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.errors import UserError

WALK = 'walk'
_SMOOTH = 25  # frames per second
_MAX_SEEDS = 100_000
_MAX_SEED = 2**32 - 1
_RANGE = re.compile(r'\s*(\d{1,10})(?:-(\d{1,10}))?\s*')


def define_flags(values: flags.FlagValues) -> None:
  """Defines --seeds, --latents and the flags of a walk."""
  flags.DEFINE_string(
    'seeds',
    None,
    'Seeds to draw one sample of each, as in 1,5,7-9: sample 0 of --seed.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'latents',
    None,
    'FILE.npz with an array `latents`, or FILE.npy: latents [N, Z] to draw the '
    'samples of.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'frames',
    _SMOOTH,
    f'Frames of a walk from one sample to the next, {_SMOOTH} a second.',
    1,
    flag_values=values,
  )
  flags.DEFINE_boolean(
    'loop',
    True,
    'Whether a walk returns to its first sample.',
    flag_values=values,
  )


def check_flags(
  values: flags.FlagValues, independent: str, others: Sequence[str] = ()
) -> None:
  """Checks that the flags of `define_flags` go with the rest.

  Args:
    values: the parsed flags.
    independent: the --kind of independent samples.
    others: flags that may give a walk its latents instead.

  Raises:
    UserError: naming a flag that has no effect, or that is missing.
  """
  is_walk = values.kind == WALK
  if not is_walk:
    reason = f'without --kind={WALK}; add it'
    commands.refuse_unused(values, reason, 'frames', 'loop')
  if values.kind not in (independent, WALK):
    reason = f'with --kind={values.kind}; use --kind={WALK} or {independent}'
    commands.refuse_unused(values, reason, 'seeds', 'latents')
  if values.latents is not None:
    unused = ('seeds', 'seed', 'num_samples')
    commands.refuse_unused(values, 'with --latents; remove it', *unused)
  elif values.seeds is not None:
    reason = 'with --seeds; remove it'
    commands.refuse_unused(values, reason, 'seed', 'num_samples')
  elif is_walk and all(values[name].value is None for name in others):
    named = ' or '.join(f'--{name}' for name in ('latents', *others))
    raise UserError(
      f'--kind={WALK}: has no samples to lead through; add --seeds=1,5,9 or '
      f'{named}'
    )


def timing(values: flags.FlagValues) -> animations.Timing | None:
  """How an animation of a walk plays; None for other kinds."""
  if values.kind != WALK:
    return None
  return animations.Timing(_SMOOTH, has_pause=not values.loop)


def parse_seeds(text: str) -> list[int]:
  """The seeds that a list of numbers and ranges names, in its order.

  Raises:
    UserError: if it is no such list, or names too many.
  """
  seeds = []
  for part in text.split(','):
    match = _RANGE.fullmatch(part)
    if match is None:
      raise UserError(
        f'--seeds={text}: {part!r} is no seed; give numbers and ranges, as in '
        '--seeds=1,5,7-9'
      )
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
      raise UserError(f'--seeds={text}: {part} runs backwards; swap its ends')
    if last > _MAX_SEED:
      raise UserError(f'--seeds={text}: seeds go from 0 to {_MAX_SEED}')
    if len(seeds) + last - first >= _MAX_SEEDS:
      raise UserError(
        f'--seeds={text}: more than {_MAX_SEEDS:,} seeds; for so many samples '
        'use --num_samples'
      )
    seeds += range(first, last + 1)
  return seeds


@dataclasses.dataclass(frozen=True)
class Given:
  """What --latents or --seeds gives.

  Attributes:
    flag: the flag with its value, for errors.
    latents: floats [N, Z], or [S, N, Z] of a run of several seeds; None with
      --seeds.
    labels: classes [N] of a file by number or name; None if there are none.
    seeds: None with --latents.
  """

  flag: str
  latents: np.ndarray | None = None
  labels: np.ndarray | None = None
  seeds: tuple[int, ...] | None = None

  def __len__(self) -> int:
    """N."""
    return len(self.seeds) if self.seeds else self.latents.shape[-2]

  def latents_of(
    self,
    draw: Callable[[Sequence[int]], jax.Array],
    dtype: jnp.dtype,
    index: int = 0,
  ) -> latents_lib.LatentsOf:
    """The latents by number.

    Args:
      draw: draws latents [N, Z] of seeds [N].
      dtype: of the latents.
      index: the seed of training, among S.
    """
    if self.latents is not None:
      is_of_several = self.latents.ndim == 3
      chosen = self.latents[index] if is_of_several else self.latents
      return latents_lib.given(chosen.astype(dtype))
    last = len(self.seeds) - 1
    return lambda numbers: draw([self.seeds[min(i, last)] for i in numbers])


def given(
  values: flags.FlagValues, size: int, num_seeds: int = 1
) -> Given | None:
  """What --latents or --seeds gives; None if neither is there.

  Args:
    values: the parsed flags.
    size: Z of the run.
    num_seeds: S of the run; with more than one, latents may be [S, N, Z].

  Raises:
    UserError: naming the flag, and what is wrong with its value; or if a walk
      has nowhere to go.
  """
  found = None
  if values.latents is not None:
    found = read(values.latents, size, num_seeds)
  elif values.seeds is not None:
    seeds = tuple(parse_seeds(values.seeds))
    found = Given(f'--seeds={values.seeds}', seeds=seeds)
  if found is not None and values.kind == WALK:
    check_stops(len(found), found.flag)
  return found


def check_stops(num: int, flag: str) -> None:
  """Checks that a walk or an interpolation has somewhere to go.

  Raises:
    UserError: if there are fewer than two latents.
  """
  if num < 2:
    raise UserError(
      f'{flag}: leads nowhere, because it gives only one; give at least two'
    )


def num_samples(values: flags.FlagValues, num: int) -> int:
  """The number of samples of `num` latents, which a walk leads through."""
  if values.kind != WALK:
    return num
  return latents_lib.num_frames(num, values.frames, is_closed=values.loop)


def walk(
  values: flags.FlagValues, stops_of: latents_lib.LatentsOf, num: int
) -> latents_lib.LatentsOf:
  """The frames of a walk between `num` latents."""
  chunks = [stops_of(numbers) for numbers in latents_lib.chunks_of_numbers(num)]
  return latents_lib.walk(np.concatenate(chunks)[:num], values.frames)


def read(path: str, size: int, num_seeds: int = 1) -> Given:
  """Reads the file that --latents names.

  Args:
    path: of an .npz or .npy.
    size: Z of the run.
    num_seeds: S of the run; with more than one, latents may be [S, N, Z].

  Raises:
    UserError: naming the file and what is wrong with it.
  """
  latents, labels = _read_arrays(path)
  shape, wanted = list(latents.shape), f'[N, {size}]'
  if num_seeds > 1:
    wanted += f' or [{num_seeds}, N, {size}]'
  is_whole = latents.ndim == 2 or shape[:-2] == [num_seeds] != [1]
  if not is_whole or shape[-1] != size or not latents.size:
    raise UserError(
      f'--latents={path}: the latents have the shape {shape}; this run takes '
      f'{wanted}'
    )
  if latents.dtype.kind != 'f':
    raise UserError(
      f'--latents={path}: the latents are {latents.dtype}; store floats'
    )
  with np.errstate(over='ignore'):
    is_finite = np.isfinite(latents.astype(np.float32)).all()
  if not is_finite:
    raise UserError(
      f'--latents={path}: the latents contain NaN or infinity; store finite '
      'numbers'
    )
  num = shape[-2]
  is_class = labels is None or labels.dtype.kind in 'iuU'
  if not is_class or (labels is not None and labels.shape != (num,)):
    raise UserError(
      f'--latents={path}: the labels are {labels.dtype} {list(labels.shape)}; '
      f'store one class, by number or name, for each of the {num:,} latents'
    )
  return Given(f'--latents={path}', latents, labels)


def _read_arrays(path: str) -> tuple[np.ndarray, np.ndarray | None]:
  """The arrays `latents` and `labels`, of any kind; none of a pickle."""
  if files.is_remote(path):
    raise UserError(f'--latents={path}: give a path on this machine')
  file = os.path.expanduser(path)
  ending = os.path.splitext(file)[1].lower()
  if ending not in ('.npz', '.npy'):
    raise UserError(f'--latents={path}: give a file that ends in .npz or .npy')
  if not os.path.isfile(file):
    raise UserError(f'--latents={path}: there is no such file')
  try:
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
      return loaded, None
    with loaded:
      if 'latents' not in loaded:
        there = ', '.join(loaded) or 'none'
        raise UserError(
          f'--latents={path}: has no array `latents`, only {there}; store '
          'latents [N, Z] under this name'
        )
      for name in {'latents', 'labels'} & {*loaded}:
        stored = loaded.zip.getinfo(f'{name}.npy').file_size
        if stored > memory.total_bytes():
          raise ValueError(
            f'`{name}` needs {stored / 2**30:,.1f} GiB of memory'
          )
      labels = loaded['labels'] if 'labels' in loaded else None
      return np.asarray(loaded['latents']), labels
  except UserError:
    raise
  except Exception as error:  # zip files and their arrays raise many types
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise UserError(f'--latents={path}: cannot be read: {reason}') from error
