"""Table of train steps timed in turns, and their share of the peak rate."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from absl import flags
import jax
import numpy as np

from benchmarks import turns
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.errors import UserError
from common_flax.training import speed

OURS, OURS_BFLOAT16 = 'ours', 'ours, bfloat16'
_MATMULS = {OURS: 'matmul', OURS_BFLOAT16: 'matmul, bfloat16'}
_DTYPES = {OURS: 'float32', OURS_BFLOAT16: 'bfloat16'}


def define_flags(values: flags.FlagValues, **defaults: int) -> None:
  """Defines --only, --output, and a positive integer flag per default."""
  commands.define_integers(values, **defaults)
  flags.DEFINE_multi_string(
    'only',
    None,
    'Contender to time beside ours, by its name in the table; repeatable.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'output', None, 'JSON file for the timings.', flag_values=values
  )


def _build_matmul(dtype: str) -> turns.Run:
  """Builds a large matrix product, which runs near the machine's peak rate."""
  memory.keep_freed()
  product = speed.large_product(np.dtype(dtype))

  def run(num_products: int) -> None:
    for _ in range(num_products):
      jax.block_until_ready(product())

  return run


def _chosen(
  builds: Mapping[str, turns.Build], only: Sequence[str] | None
) -> dict[str, turns.Build]:
  """Selects ours, those of --only, and a product in each of our precisions."""
  for name in only or ():
    if name not in builds:
      raise UserError(f'--only={name}: unknown; use one of {"; ".join(builds)}')
  chosen = {n: builds[n] for n in (OURS, *only)} if only else dict(builds)
  for name, matmul in _MATMULS.items():
    if name in chosen:
      chosen[matmul] = functools.partial(_build_matmul, _DTYPES[name])
  return chosen


def _row(
  name: str,
  seconds: Mapping[str, Sequence[float]],
  ours: Sequence[str],
  batch_size: int,
  decimals: int,
) -> list[str]:
  low, median, high = np.percentile(seconds[name], (25, 50, 75))
  row = [
    name,
    f'{1000 * median:,.{decimals}f}',
    f'{1000 * low:,.{decimals}f} to {1000 * high:,.{decimals}f}',
    f'{batch_size / median:,.0f}',
  ]
  for mine in ours:
    times, least, most = turns.ratio(seconds, name, mine)
    row += [f'{times:.2f}', f'{least:.2f} to {most:.2f}']
  return row


def _header(ours: Sequence[str]) -> list[str]:
  header = ['step', 'ms', 'quartiles', 'images/s']
  for mine in ours:
    header += [f'speedup of {mine}', 'quartiles']
  return header


def compare(
  values: flags.FlagValues,
  builds: Mapping[str, turns.Build],
  sizes: Any,
  multiply_adds: float,
  counted_as: str,
  *,
  decimals: int = 0,
) -> None:
  """Times contenders in turns, prints the table, and writes --output.

  A large matrix product takes turns with them; the table is followed by our
  step's share of its rate.

  Args:
    values: the flags of `define_flags`, including `rounds` and `steps`.
    builds: contenders by name, with `OURS` and optionally `OURS_BFLOAT16`.
    sizes: a dataclass to print above the table, with a field `batch_size`.
    multiply_adds: of one step of ours.
    counted_as: the operations that `multiply_adds` counts.
    decimals: of the milliseconds.

  Raises:
    UserError: if --only names no contender, or ours cannot run.
  """
  builds = _chosen(builds, values.only)
  seconds = turns.time_in_turns(builds, values.rounds, values.steps)
  matmuls = {n: seconds.pop(n) for n in _MATMULS.values() if n in seconds}
  for name, run in ((OURS, seconds), (_MATMULS[OURS], matmuls)):
    if name not in run:
      raise UserError(f'{name!r} did not run; the others are compared with it')
  ours = [name for name in _MATMULS if name in seconds]
  rows = [
    _row(name, seconds, ours, sizes.batch_size, decimals) for name in seconds
  ]
  print(f'\n{sizes}, {turns.machine()}\n')
  print(turns.markdown(_header(ours), rows))
  print(f'\nCounting {counted_as}:')
  for name in ours:
    if matmul := matmuls.get(_MATMULS[name]):
      print(_share(name, multiply_adds, seconds[name], matmul))
  if values.output:
    result = {
      'machine': turns.machine(),
      'sizes': dataclasses.asdict(sizes),
      'seconds': {**seconds, **matmuls},
    }
    turns.write_json(values.output, result)


def _share(
  name: str,
  multiply_adds: float,
  seconds: Sequence[float],
  of_matmul: Sequence[float],
) -> str:
  """Describes the step's rate as a share of a large product's rate."""
  size = speed.product_size()
  rate = 2 * multiply_adds / np.median(seconds)
  matmul_rate = 2 * size**3 / np.median(of_matmul)
  return (
    f'{name}, {rate / 1e9:,.0f} GFLOP/s, {rate / matmul_rate:.2f} of the '
    f'{matmul_rate / 1e9:,.0f} GFLOP/s of a {size}^3 {_DTYPES[name]} product'
  )
