"""Measures what a trained generator's samples cover.

  python -m gan_flax.evaluate --workdir=DIR [--num_samples=N] [--seed=0]
      [--split=test] [--noema]

Of a toy world it counts the modes that samples reach; of labelled images, and
of their stacks, the classes that a classifier of the real images sees in them,
and of a conditional generator how often that is the class that was asked for.
The classifier is trained the first time, and kept in the user's cache.

Of a run of several seeds every one is measured: the metrics are means, each
with its standard error, and those of each seed stand beside them; so do what
real examples of the split score, and what perfect samples are expected to.
Prints a table and writes `evaluation.json` in the workdir.
"""

from collections.abc import Sequence
import math
import sys
import time
from typing import Any

from absl import flags
import numpy as np

from common_flax import commands
from common_flax import prng
from common_flax import terminal
from common_flax import workdir as workdir_lib
from gan_flax import config as gan_config
from gan_flax import measurements
from gan_flax import trained
from gan_flax.measurements import Measurement
from gan_flax.trained import Sampler


def evaluate(
  samplers: Sequence[Sampler],
  measurement: Measurement,
  seed: int,
  num_samples: int,
) -> dict[str, Any]:
  """Measures trained generators.

  Args:
    samplers: one for each seed.
    measurement: what to measure.
    seed: of the samples that are drawn.
    num_samples: of each generator.

  Returns:
    The metrics, means over seeds; of several also `..._standard_error`, and
    under `seeds` the metrics of each. Those of `real_...` are the real
    examples', those of `perfect_...` what as many perfect samples are expected
    to score.
  """
  key = prng.stream(prng.root_key(seed), 'evaluate')
  rows = [
    measurement.measure(sampler, key, num_samples)
    for sampler in terminal.track(samplers, len(samplers), 'Drawing')
  ]
  metrics = {}
  for name in rows[0]:
    values = np.array([row[name] for row in rows])
    metrics[name] = values.mean(axis=0).tolist()
    if len(rows) > 1:
      error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
      metrics[f'{name}_standard_error'] = error.tolist()
    for baseline, found in measurement.baselines.items():
      if name in found:
        metrics[f'{baseline}_{name}'] = found[name]
  if len(rows) > 1:
    metrics['seeds'] = [
      {'seed': sampler.seed, **row}
      for sampler, row in zip(samplers, rows, strict=True)
    ]
  return metrics


def _print(metrics: dict[str, Any], title: str) -> None:
  """A row a seed, their mean, and what real and perfect samples score."""
  # Of what is measured a class at a time the file tells.
  names = [
    name.removeprefix('perfect_')
    for name in metrics
    if name.startswith('perfect_')
  ]
  rows = {
    str(row['seed']): [row[name] for name in names]
    for row in metrics.get('seeds', [])
  }
  rows['mean' if rows else 'this run'] = [metrics[name] for name in names]
  if 'seeds' in metrics:
    rows['standard error'] = [metrics[f'{n}_standard_error'] for n in names]
  rows['real examples'] = [metrics[f'real_{name}'] for name in names]
  rows['perfect samples'] = [metrics[f'perfect_{name}'] for name in names]
  terminal.print_table(title, ('seed', *names), rows)


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'split', 'test', 'Of the real examples to compare with.', flag_values=values
  )
  flags.DEFINE_integer(
    'num_samples',
    None,
    f'Of each seed; {measurements.NUM_POINTS:,} points, '
    f'{measurements.NUM_STACKS:,} stacks or {measurements.NUM_IMAGES:,} other '
    'images by default.',
    1,
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  workdir = commands.existing_workdir(values)
  dataset = workdir_lib.read_config(workdir, gan_config.default()).dataset
  num_samples = values.num_samples or measurements.default_num_samples(dataset)
  start = time.monotonic()
  measurement = measurements.of(dataset, values.split, num_samples)
  samplers = trained.load_all(workdir, use_ema=values.ema)
  metrics = evaluate(samplers, measurement, values.seed, num_samples)
  seconds = time.monotonic() - start
  provenance = {
    'checkpoint_step': samplers[0].step,
    'dataset': dataset.name,
    'split': values.split,
    'num_seeds': len(samplers),
    'num_samples': num_samples,
    'seed': values.seed,
    'moving_average': values.ema,
    'seconds': seconds,
    **measurement.provenance,
  }
  _print(
    metrics,
    f'{num_samples:,} samples of {dataset.name}, step {samplers[0].step:,}',
  )
  path = workdir_lib.write_evaluation(workdir, metrics, provenance)
  print(f'In {terminal.duration(seconds)}. All numbers: {path}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
