"""Evaluates trained generators.

  python -m gan_flax.evaluate --workdir=DIR [--metrics=NAME,NAME]
      [--num_samples=N] [--seed=0] [--split=test] [--step=STEP]
      [--all_checkpoints] [--features=inception|classifier|random]
      [--inception_weights=FILE] [--resize=clean|legacy] [--num_neighbours=5]
      [--noema] [--save_samples=FILE.npz] [--num_ais_images=100]
      [--num_simulated=16] [--num_temperatures=1000] [--num_chains=16]
      [--ais_variance=V,V]

Images are scored in the features of a network by fid, kid, inception_score,
precision, recall, density, coverage, nearest and sliced_wasserstein. Labelled
data sets add `classes`: the classes that a classifier of the real images
predicts for the samples and, for a conditional generator, how often they are
the requested ones. `ais`, which must be asked for, estimates log Pr(x) of
images of the split by annealed importance sampling, under Gaussian noise of a
chosen variance around the generated pixels. Stacked images have `classes` alone
by default, toy worlds `modes`, the modes that samples reach. Classifiers are
trained and weights downloaded once, and kept in the user's cache.

Real examples of another split are scored as a baseline, which a perfect
generator would match. For a run of several seeds the metrics are means with
their standard errors, and the metrics of each seed are written too. Prints a
table and writes `evaluation.json` in the workdir, and `nearest.png`, samples
beside their nearest training images. --all_checkpoints evaluates every
checkpoint, selects the best by the first metric named, and draws
`evaluation.png`. --save_samples keeps the samples that were scored, so that the
numbers can be counted again: `gan_flax.sample` draws others.
"""

from collections.abc import Sequence
import math
import sys
import time
from typing import Any

from absl import flags
import numpy as np

from common_flax import prng
from common_flax.annealing.audit import AIS
from common_flax.cli import commands
from common_flax.evaluation import reference_sets
from common_flax.evaluation import report
from common_flax.evaluation.protocol import Scores
from common_flax.progress import track
from common_flax.workdir import layout as workdir_lib
from gan_flax import config as gan_config
from gan_flax import measurements
from gan_flax import trained
from gan_flax.measurements import Evaluator
from gan_flax.metrics import ais
from gan_flax.trained import Sampler


def evaluate(
  samplers: Sequence[Sampler],
  evaluator: Evaluator,
  seed: int,
  num_samples: int,
) -> tuple[dict[str, Any], list[Scores]]:
  """Evaluates trained generators.

  Args:
    samplers: one per seed.
    evaluator: scores them.
    seed: of the samples.
    num_samples: drawn from each generator.

  Returns:
    The metrics, means over seeds, and the scores of each seed. `real_...` are
    the metrics of real examples, `perfect_...` those expected of perfect
    samples. Several seeds add `..._standard_error`, and `seeds` with the
    metrics of each.
  """
  key = prng.stream(prng.root_key(seed), 'evaluate')
  scores = [
    evaluator.score(sampler, key, num_samples)
    for sampler in track(samplers, len(samplers), 'Evaluating')
  ]
  rows = [each.metrics for each in scores]
  metrics = {}
  for name in rows[0]:
    values = np.array([row[name] for row in rows])
    metrics[name] = values.mean(axis=0).tolist()
    if len(rows) > 1:
      error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
      metrics[f'{name}_standard_error'] = error.tolist()
    for baseline, baseline_metrics in evaluator.baselines.items():
      if name in baseline_metrics:
        metrics[f'{baseline}_{name}'] = baseline_metrics[name]
  if len(rows) > 1:
    metrics['seeds'] = [
      {'seed': sampler.seed, **row}
      for sampler, row in zip(samplers, rows, strict=True)
    ]
  return metrics, scores


def _define_flags(values: flags.FlagValues) -> None:
  report.define_flags(values)
  flags.DEFINE_integer(
    'num_samples',
    None,
    f'Samples per seed; by default {measurements.NUM_POINTS:,} points, '
    f'{measurements.NUM_STACKS:,} stacks or {measurements.NUM_IMAGES:,} other '
    'images.',
    1,
    flag_values=values,
  )
  ais.define_flags(values)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  report.check_flags(values)
  start = time.monotonic()
  workdir = commands.existing_workdir(values)
  dataset = gan_config.read(workdir).dataset
  reference_sets.check_flags(
    values, values.metrics or measurements.default_metrics(dataset)
  )
  ais.check_flags(values)
  is_ais_alone = {*values.metrics} == {AIS}
  if is_ais_alone:
    reason = f'on {AIS}; use --num_ais_images'
    commands.refuse_unused(values, reason, 'num_samples')
  workdir_lib.check_trained(workdir)
  num_samples = values.num_samples or measurements.default_num_samples(dataset)
  evaluator = measurements.create_evaluator(
    dataset,
    values.split,
    num_samples,
    values.metrics,
    reference_sets.extractor_spec(values),
    values.num_neighbours,
  )
  if AIS in values.metrics:
    evaluator = ais.added_to(evaluator, dataset, values)

  def evaluate_checkpoint(step: int | None) -> report.Evaluation:
    samplers = trained.load_all(workdir, use_ema=values.ema, step=step)
    metrics, scores = evaluate(samplers, evaluator, values.seed, num_samples)
    name = 'points' if samplers[0].gan.is_of_points else 'images'
    class_names = samplers[0].class_names
    report.save_samples(values, name, scores, class_names)
    provenance = {
      'checkpoint_step': samplers[0].step,
      'dataset': dataset.name,
      'split': values.split,
      'num_seeds': len(samplers),
      'seed': values.seed,
      'moving_average': values.ema,
      'seconds': time.monotonic() - start,
      **evaluator.provenance,
    }
    if not is_ais_alone:
      provenance['num_samples'] = num_samples
    if class_names is not None:
      provenance['class_names'] = list(class_names)
    return report.Evaluation(metrics, provenance, scores[0].picture)

  title = f'{num_samples:,} samples of {dataset.name}'
  if is_ais_alone:
    title = f'{dataset.name}, split {values.split}'
  report.evaluate_run(values, evaluate_checkpoint, title)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
