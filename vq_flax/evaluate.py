"""Evaluates a trained model with discrete latents.

  python -m vq_flax.evaluate --workdir=DIR [--metrics=NAME,NAME] [--split=test]
      [--num_samples=10000] [--seed=0] [--step=STEP] [--all_checkpoints]
      [--features=inception|classifier|random] [--inception_weights=FILE]
      [--resize=clean|legacy] [--num_neighbours=5] [--noema]
      [--save_samples=FILE.npz]

`bound` is an upper bound on -log Pr(x): the nats that the decoder needs for an
image given its codes, and those that the codes need under a prior, here one
that knows how often each code occurs in training images. It also counts the
codes in use. The other metrics compare reconstructions of the split with its
images, as the model observes them, in the features of a network: fid, kid,
inception_score, precision, recall, density, coverage, nearest and
sliced_wasserstein. Real images of another split are scored as a baseline.
Prints a table and writes `evaluation.json` in the workdir, and `nearest.png`,
reconstructions beside their nearest training images. --all_checkpoints
evaluates every checkpoint, selects the best by the first metric named, and
draws `evaluation.png`. --save_samples keeps the images that were scored.
"""

from collections.abc import Sequence
import sys
import time
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from common_flax import data
from common_flax import prng
from common_flax.cli import commands
from common_flax.data.source import report_of
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.evaluation import reference_sets
from common_flax.evaluation import report
from common_flax.evaluation.protocol import METRICS
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.reference_sets import ReferenceSet
from common_flax.likelihoods import observations
from common_flax.workdir import layout as workdir_lib
from vq_flax import config as vq_config
from vq_flax import pictures
from vq_flax import trained as trained_lib
from vq_flax.metrics import bound
from vq_flax.trained import TrainedVQ

BOUND = 'bound'  # beside the metrics of `evaluation.protocol`
_NUM_SAMPLES = 10_000


def _define_flags(values: flags.FlagValues) -> None:
  report.define_flags(values)
  flags.DEFINE_integer(
    'num_samples',
    _NUM_SAMPLES,
    'Number of images of the split that are reconstructed.',
    1,
    flag_values=values,
  )


def _requested_metrics(values: flags.FlagValues) -> Sequence[str]:
  """The metrics that the flags name; refuses flags without effect on them.

  Raises:
    UserError: naming a metric that is unknown, or a flag.
  """
  requested = reference_sets.requested_metrics(
    values.metrics or (BOUND, *METRICS), (BOUND, *METRICS)
  )
  reference_sets.check_flags(values, requested)
  if {*requested} == {BOUND}:
    commands.refuse_unused(values, f'on {BOUND}; remove it', 'num_samples')
    if values.save_samples:
      raise UserError(
        f'--save_samples={values.save_samples}: {BOUND} draws no samples; name '
        'another metric with --metrics, or drop the flag'
      )
  return requested


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  report.check_flags(values)
  start = time.monotonic()
  workdir = commands.existing_workdir(values)
  config = vq_config.read(workdir)
  requested = _requested_metrics(values)
  workdir_lib.check_trained(workdir)
  source = _open_split(config, values.split)
  for line in report_of(source).lines():
    print(line)
  training_source = None
  if BOUND in requested:
    training_source = _open_split(config, config.dataset.split)
  reference_set = _reference_set(values, config, requested)
  num = min(values.num_samples, len(source))
  baseline = {}
  if reference_set is not None:
    baseline = reference_set.baseline_metrics(num)

  def evaluate_checkpoint(step: int | None) -> report.Evaluation:
    trained = trained_lib.load(workdir, use_ema=values.ema, step=step)
    metrics, picture = {}, None
    provenance = _provenance(trained, values)
    if training_source is not None:
      metrics |= bound.measure(trained, source, training_source, values.seed)
      provenance['num_images'] = len(source)
    if reference_set is not None:
      key = prng.stream(prng.root_key(values.seed), 'observe')
      images = pictures.reconstructions(
        trained.vq, trained.params, source, key, num
      )
      scores = reference_set.score(images)._replace(samples=images)
      picture = scores.picture
      metrics |= scores.metrics
      metrics |= {f'real_{k}': v for k, v in baseline.items()}
      report.save_samples(values, 'images', [scores], None)
      provenance['num_samples'] = num
      provenance |= reference_set.provenance(num)
    provenance['seconds'] = time.monotonic() - start
    return report.Evaluation(metrics, provenance, picture)

  report.evaluate_run(
    values, evaluate_checkpoint, f'{config.dataset.name}, split {values.split}'
  )


def _open_split(config: ConfigDict, split: str) -> Source:
  """The images of a split, binarised if that is done once."""
  return observations.prepare_source(config, data.load(config.dataset, split))


def _provenance(trained: TrainedVQ, values: flags.FlagValues) -> dict[str, Any]:
  """What all metrics depend on."""
  config = trained.config
  return {
    'checkpoint_step': trained.step,
    'dataset': config.dataset.name,
    'split': values.split,
    'likelihood': config.likelihood,
    'prior': 'frequencies of codes',
    'scored': 'reconstructions',
    'binarise': config.dataset.binarise,
    'seed': values.seed,
    'moving_average': values.ema,
  }


def _reference_set(
  values: flags.FlagValues, config: ConfigDict, requested: Sequence[str]
) -> ReferenceSet | None:
  """The real images to score against, if any metric needs them."""
  metrics = tuple(name for name in requested if name in METRICS)
  if not metrics:
    return None
  return reference_sets.create_reference_set(
    lambda split: observations.as_observed(config, _open_split(config, split)),
    config.dataset,
    values.split,
    reference_sets.extractor_spec(values),
    Protocol(metrics, values.num_neighbours),
    values.num_samples,
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
