"""Measures trained generators.

  python -m gan_flax.evaluate --workdir=DIR [--metrics=NAME,NAME]
      [--num_samples=N] [--seed=0] [--split=test] [--step=STEP]
      [--all_checkpoints] [--features=inception|classifier|random]
      [--inception_weights=FILE] [--resize=clean|legacy] [--num_neighbours=5]
      [--noema]

Of images it measures, in a network's features, fid, kid, inception_score,
precision, recall, density, coverage, nearest and sliced_wasserstein, and of
labelled ones `classes`: those that a classifier of the real images sees in the
samples, and of a conditional generator how often that is the class that was
asked for. Of stacked images `classes` alone is measured unless more is asked
for; of a toy world, `modes`, those that samples reach. Networks are trained or
loaded the first time, and kept in the user's cache.

What real examples of another split score stands beside it: a perfect generator
would score the same. Of a run of several seeds the metrics are means, each with
its standard error, and those of each seed are written too. Prints a table and
writes `evaluation.json` in the workdir, and `nearest.png`, samples to the left
of their nearest training images. With --all_checkpoints each checkpoint is
measured, the best by the first metric named, and `evaluation.png` drawn.
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
from common_flax import references
from common_flax import reports
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
) -> tuple[dict[str, Any], np.ndarray | None]:
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
    to score. Then the first seed's picture, see `Measured`.
  """
  key = prng.stream(prng.root_key(seed), 'evaluate')
  found = [
    measurement.measure(sampler, key, num_samples)
    for sampler in terminal.track(samplers, len(samplers), 'Measuring')
  ]
  rows = [measured.metrics for measured in found]
  metrics = {}
  for name in rows[0]:
    values = np.array([row[name] for row in rows])
    metrics[name] = values.mean(axis=0).tolist()
    if len(rows) > 1:
      error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
      metrics[f'{name}_standard_error'] = error.tolist()
    for baseline, scores in measurement.baselines.items():
      if name in scores:
        metrics[f'{baseline}_{name}'] = scores[name]
  if len(rows) > 1:
    metrics['seeds'] = [
      {'seed': sampler.seed, **row}
      for sampler, row in zip(samplers, rows, strict=True)
    ]
  return metrics, found[0].picture


def _define_flags(values: flags.FlagValues) -> None:
  reports.define_flags(values)
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
  start = time.monotonic()
  workdir = commands.existing_workdir(values)
  dataset = gan_config.read(workdir).dataset
  workdir_lib.check_trained(workdir)
  num_samples = values.num_samples or measurements.default_num_samples(dataset)
  measurement = measurements.of(
    dataset,
    values.split,
    num_samples,
    values.metrics,
    references.eyes_of(values),
    values.num_neighbours,
  )

  def measure(step: int | None) -> reports.Measured:
    samplers = trained.load_all(workdir, use_ema=values.ema, step=step)
    metrics, picture = evaluate(samplers, measurement, values.seed, num_samples)
    provenance = {
      'checkpoint_step': samplers[0].step,
      'dataset': dataset.name,
      'split': values.split,
      'num_seeds': len(samplers),
      'num_samples': num_samples,
      'seed': values.seed,
      'moving_average': values.ema,
      'seconds': time.monotonic() - start,
      **measurement.provenance,
    }
    return reports.Measured(metrics, provenance, picture)

  title = f'{num_samples:,} samples of {dataset.name}'
  reports.evaluate(values, measure, title)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
