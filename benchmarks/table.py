"""A table of train steps timed in turns, and ours beside a large product."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from common_flax import commands
from common_flax import memory
from common_flax.config import UserError

OURS = 'ours'
MATMUL = 'matmul'
_MATMUL_SIZE = 2048
_HEADER = (
  'step',
  'ms',
  'quartiles',
  'images/s',
  'ours is times as fast',
  'quartiles',
)


def define_flags(values: flags.FlagValues, **defaults: int) -> None:
  """Defines --only, --output, and flags of numbers from 1 on."""
  commands.define_integers(values, **defaults)
  flags.DEFINE_multi_string(
    'only',
    None,
    'A contender beside ours, by its name in the table; may be repeated.',
    flag_values=values,
  )
  flags.DEFINE_string('output', None, 'FILE.json', flag_values=values)


def build_matmul() -> turns.Run:
  """A large product, in float32: what the machine can do."""
  memory.keep_freed()
  product = jax.jit(jnp.matmul)
  x = jnp.ones((_MATMUL_SIZE, _MATMUL_SIZE))

  def run(num_products: int) -> None:
    for _ in range(num_products):
      jax.block_until_ready(product(x, x))

  return run


def _chosen(
  builds: Mapping[str, turns.Build], only: Sequence[str] | None
) -> Mapping[str, turns.Build]:
  for name in only or ():
    if name not in builds:
      raise UserError(f'--only={name}: take one of {"; ".join(builds)}')
  return {n: builds[n] for n in (OURS, MATMUL, *only)} if only else builds


def _row(
  name: str,
  seconds: Mapping[str, Sequence[float]],
  batch_size: int,
  decimals: int,
) -> list[str]:
  low, median, high = np.percentile(seconds[name], (25, 50, 75))
  times, least, most = turns.ratio(seconds, name, OURS)
  return [
    name,
    f'{1000 * median:,.{decimals}f}',
    f'{1000 * low:,.{decimals}f} to {1000 * high:,.{decimals}f}',
    f'{batch_size / median:,.0f}',
    f'{times:.2f}',
    f'{least:.2f} to {most:.2f}',
  ]


def compare(
  values: flags.FlagValues,
  builds: Mapping[str, turns.Build],
  sizes: Any,
  multiply_adds: float,
  counted_as: str,
  *,
  decimals: int = 0,
) -> None:
  """Times contenders in turns, prints the table, writes the file asked for.

  Args:
    values: the flags of `define_flags`, `rounds` and `steps` among them.
    builds: contenders by name, `OURS` and `MATMUL` among them.
    sizes: a dataclass of what is printed above the table, with `batch_size`.
    multiply_adds: of one step of ours.
    counted_as: what form of the step has so many.
    decimals: of the milliseconds.

  Raises:
    UserError: if --only names no contender, or ours cannot run.
  """
  builds = _chosen(builds, values.only)
  seconds = turns.time_in_turns(builds, values.rounds, values.steps)
  for name in (OURS, MATMUL):
    if name not in seconds:
      raise UserError(f'{name!r} did not run, which all else is compared with')
  matmul = seconds.pop(MATMUL)
  rows = [_row(name, seconds, sizes.batch_size, decimals) for name in seconds]
  matmul_rate = 2 * _MATMUL_SIZE**3 / np.median(matmul)
  rate = 2 * multiply_adds / np.median(seconds[OURS])
  print(f'\n{sizes}, {turns.machine()}\n')
  print(turns.markdown(_HEADER, rows))
  print(
    f'\nOurs, counted as {counted_as}: {rate / 1e9:,.0f} GFLOP/s, '
    f'{rate / matmul_rate:.2f} of the {matmul_rate / 1e9:,.0f} GFLOP/s of a '
    f'{_MATMUL_SIZE}^3 float32 product.'
  )
  if values.output:
    result = {
      'machine': turns.machine(),
      'sizes': dataclasses.asdict(sizes),
      'seconds': {**seconds, MATMUL: matmul},
    }
    turns.write_json(values.output, result)
