"""Measures which modes of a toy world a trained generator covers.

  python -m gan_flax.evaluate --workdir=DIR [--num_samples=2500] [--seed=0]
      [--split=test] [--noema]

Of a run of several seeds every one is measured: the metrics are means, each
with its standard error, and those of each seed stand beside them; so do what
real points of the split score, and what they are expected to. Prints a table
and writes `evaluation.json` in the workdir.
"""

from collections.abc import Sequence
import math
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np

from common_flax import commands
from common_flax import data
from common_flax import prng
from common_flax import terminal
from common_flax import workdir as workdir_lib
from common_flax.config import UserError
from common_flax.data.worlds import WORLDS
from common_flax.metrics import modes
from gan_flax import config as gan_config
from gan_flax import trained
from gan_flax.trained import Sampler


def evaluate(
  samplers: Sequence[Sampler], real: np.ndarray, seed: int, num_samples: int
) -> dict[str, Any]:
  """Mode coverage of trained generators of points.

  Args:
    samplers: one for each seed.
    real: [N, 2] real points, to compare with.
    seed: of the samples that are drawn.
    num_samples: of each generator.

  Returns:
    The fields of `modes.Coverage`, means over seeds; of several also
    `..._standard_error`, and under `seeds` the metrics of each. Those of
    `real_...` are the real points', those of `perfect_...` what `num_samples`
    of them are expected to score.
  """
  world = WORLDS[samplers[0].config.dataset.name]
  baselines = {
    'real': modes.coverage(real, world),
    'perfect': modes.perfect_coverage(world, num_samples),
  }
  key = prng.stream(prng.root_key(seed), 'evaluate')
  rows = [
    modes.coverage(
      np.asarray(jax.device_get(sampler.generate(key, num_samples))), world
    )._asdict()
    for sampler in terminal.track(samplers, len(samplers), 'Drawing')
  ]
  metrics = {}
  for name in rows[0]:
    values = np.array([row[name] for row in rows])
    metrics[name] = float(values.mean())
    if len(rows) > 1:
      error = values.std(ddof=1) / math.sqrt(len(values))
      metrics[f'{name}_standard_error'] = float(error)
    for baseline, found in baselines.items():
      metrics[f'{baseline}_{name}'] = getattr(found, name)
  if len(rows) > 1:
    metrics['seeds'] = [
      {'seed': sampler.seed, **row}
      for sampler, row in zip(samplers, rows, strict=True)
    ]
  return metrics


def _print(metrics: dict[str, Any], title: str) -> None:
  """A row a seed, their mean, and what is perfect."""
  names = modes.Coverage._fields
  rows = {
    str(row['seed']): [row[name] for name in names]
    for row in metrics.get('seeds', [])
  }
  rows['mean' if rows else 'this run'] = [metrics[name] for name in names]
  if 'seeds' in metrics:
    rows['standard error'] = [metrics[f'{n}_standard_error'] for n in names]
  rows['real points'] = [metrics[f'real_{name}'] for name in names]
  rows['expected of them'] = [metrics[f'perfect_{name}'] for name in names]
  terminal.print_table(title, ('seed', *names), rows)


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'split', 'test', 'Of the real points to compare with.', flag_values=values
  )
  flags.DEFINE_integer(
    'num_samples', 2500, "Of each seed; PacGAN's.", 1, flag_values=values
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  workdir = commands.existing_workdir(values)
  config = workdir_lib.read_config(workdir, gan_config.default())
  if config.dataset.name not in WORLDS:
    raise UserError(
      f'{workdir}: was trained on the images of {config.dataset.name}; modes '
      f'are counted in the worlds {" and ".join(WORLDS)}'
    )
  source = data.load_source(
    config.dataset.name, values.split, config.dataset.image_size
  )
  real = source.examples[: values.num_samples]
  samplers = trained.load_all(workdir, use_ema=values.ema)
  start = time.monotonic()
  metrics = evaluate(samplers, real, values.seed, values.num_samples)
  seconds = time.monotonic() - start
  provenance = {
    'checkpoint_step': samplers[0].step,
    'dataset': config.dataset.name,
    'split': values.split,
    'num_seeds': len(samplers),
    'num_samples': values.num_samples,
    'num_real': len(real),
    'seed': values.seed,
    'moving_average': values.ema,
    'seconds': seconds,
  }
  _print(
    metrics,
    f'{values.num_samples:,} samples in the world {config.dataset.name}, step '
    f'{samplers[0].step:,}',
  )
  path = workdir_lib.write_evaluation(workdir, metrics, provenance)
  print(f'In {terminal.duration(seconds)}. All numbers: {path}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
