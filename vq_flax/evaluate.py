"""Evaluates a trained model with discrete latents.

  python -m vq_flax.evaluate --workdir=DIR [--metrics=NAME,NAME] [--split=test]
      [--scored=reconstructions|prior] [--num_samples=10000] [--seed=0]
      [--step=STEP] [--all_checkpoints]
      [--features=inception|classifier|random] [--inception_weights=FILE]
      [--resize=clean|legacy] [--num_neighbours=5] [--noema]
      [--save_samples=FILE.npz]

`bound` is an upper bound on -log Pr(x): the nats that the decoder needs for an
image given its codes, and those that the codes need under a prior: the one of
`python -m vq_flax.prior`, if it has been trained for these weights of the
model, else one that knows how often each code occurs in training images. It
also counts the codes in use. The other metrics compare reconstructions of the
split, or with --scored=prior images that the prior draws, with real images as
the model observes them, in the features of a network: fid, kid,
inception_score, precision, recall, density, coverage, nearest and
sliced_wasserstein. Real images of another split are scored as a baseline.
`classes`, of a prior that is told the class and with --scored=prior, is how
often a classifier of the data agrees with the class that was asked for. Prints
a table and writes `evaluation.json` in the workdir, and `nearest.png`, images
beside their nearest training images. --all_checkpoints evaluates every
checkpoint of the model, selects the best by the first metric named, and draws
`evaluation.png`. --save_samples keeps the images that were scored.
"""

from collections.abc import Sequence
import sys
import time
from typing import Any

from absl import flags
from etils import epath
from ml_collections import ConfigDict
import numpy as np

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
from common_flax.latents import CHUNK
from common_flax.likelihoods import observations
from common_flax.metrics import classifier as classifier_lib
from common_flax.progress import track
from common_flax.workdir import layout as workdir_lib
from vq_flax import config as vq_config
from vq_flax import pictures
from vq_flax import trained as trained_lib
from vq_flax.metrics import bound
from vq_flax.prior import trained as prior_lib
from vq_flax.prior.trained import TrainedPrior
from vq_flax.trained import TrainedVQ

# Beside the metrics of `evaluation.protocol`.
BOUND, CLASSES = 'bound', 'classes'
_NUM_SAMPLES = 10_000
_RECONSTRUCTIONS, _PRIOR = SCORED = ('reconstructions', 'prior')


def _define_flags(values: flags.FlagValues) -> None:
  report.define_flags(values)
  flags.DEFINE_integer(
    'num_samples',
    _NUM_SAMPLES,
    'Number of images that are drawn, or of the split that are reconstructed.',
    1,
    flag_values=values,
  )
  flags.DEFINE_enum(
    'scored',
    _RECONSTRUCTIONS,
    SCORED,
    'The images that are compared with real ones.',
    flag_values=values,
  )


def _requested_metrics(values: flags.FlagValues) -> Sequence[str]:
  """The metrics that the flags name; refuses flags without effect on them.

  Raises:
    UserError: naming a metric that is unknown, or a flag.
  """
  requested = reference_sets.requested_metrics(
    values.metrics or (BOUND, *METRICS), (BOUND, CLASSES, *METRICS)
  )
  reference_sets.check_flags(values, requested)
  if {*requested} == {BOUND}:
    reason = f'on {BOUND}; remove it'
    commands.refuse_unused(values, reason, 'num_samples', 'scored')
  if values.save_samples and not {*requested} & {*METRICS}:
    raise UserError(
      f'--save_samples={values.save_samples}: {" and ".join(requested)} keeps '
      'no samples; name another metric with --metrics, or drop the flag'
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
  prior = _prior(workdir, values, requested)
  num = _num_scored(values, len(source))
  reference_set = _reference_set(values, config, requested, num)
  baseline = {}
  if reference_set is not None:
    baseline = reference_set.baseline_metrics(num)

  def evaluate_checkpoint(step: int | None) -> report.Evaluation:
    trained = trained_lib.load(workdir, use_ema=values.ema, step=step)
    metrics, picture = {}, None
    provenance = _provenance(trained, values)
    own_prior = _prior_of(trained, prior, is_scored=values.scored == _PRIOR)
    provenance['prior_step'] = None if own_prior is None else own_prior.step
    if training_source is not None:
      metrics |= bound.measure(
        trained, source, training_source, values.seed, own_prior
      )
      provenance['num_images'] = len(source)
    if {*requested} != {BOUND}:
      images, labels = _scored(trained, prior, source, values, num)
      provenance['num_samples'] = num
    if CLASSES in requested:
      metrics |= _agreement(config, images, labels, prior.num_classes)
    if reference_set is not None:
      scores = reference_set.score(images)
      picture = scores.picture
      metrics |= scores.metrics
      metrics |= {f'real_{k}': v for k, v in baseline.items()}
      scores = scores._replace(samples=images, labels=labels)
      names = None if labels is None else prior.class_names
      report.save_samples(values, 'images', [scores], names)
      provenance |= reference_set.provenance(num)
    provenance['seconds'] = time.monotonic() - start
    return report.Evaluation(metrics, provenance, picture)

  report.evaluate_run(
    values, evaluate_checkpoint, f'{config.dataset.name}, split {values.split}'
  )


def _open_split(config: ConfigDict, split: str) -> Source:
  """The images of a split, binarised if that is done once."""
  return observations.prepare_source(config, data.load(config.dataset, split))


def _prior(
  workdir: epath.Path, values: flags.FlagValues, requested: Sequence[str]
) -> TrainedPrior | None:
  """The model's prior, if it has been trained and a metric takes it.

  Raises:
    UserError: if it has not, and is to draw; if it cannot be read; or if it is
      not told the class that a metric needs.
  """
  prior = None
  is_measured = BOUND in requested and prior_lib.exists(workdir)
  if values.scored == _PRIOR or is_measured:
    prior = prior_lib.load(workdir, use_ema=values.ema)
  if CLASSES in requested and (
    values.scored != _PRIOR or prior.num_classes is None
  ):
    raise UserError(
      f'--metrics={CLASSES}: needs a prior that is told the class, and '
      f'--scored={_PRIOR}'
    )
  return prior


def _prior_of(
  trained: TrainedVQ, prior: TrainedPrior | None, *, is_scored: bool
) -> TrainedPrior | None:
  """The prior, if it has been trained for these weights of the model.

  Raises:
    UserError: if it has not, and its images are to be scored.
  """
  if prior is None or prior_lib.same_weights(trained.params, prior.model):
    return prior
  reason = (
    'the prior belongs to other weights of the model, those of its moving '
    'average when the prior was trained'
  )
  if is_scored:
    raise UserError(
      f'--scored={_PRIOR}: {reason}; remove --step and --noema, or train a '
      'new prior'
    )
  print(f'{reason.capitalize()}; the bound is that of frequencies of codes.')
  return None


def _scored(
  trained: TrainedVQ,
  prior: TrainedPrior | None,
  source: Source,
  values: flags.FlagValues,
  num: int,
) -> tuple[np.ndarray, np.ndarray | None]:
  """The images to score, uint8 [num, H, W, C], and the classes asked for."""
  root = prng.root_key(values.seed)
  if values.scored == _RECONSTRUCTIONS:
    key = prng.stream(root, 'observe')
    images = pictures.reconstructions(
      trained.vq, trained.params, source, key, num
    )
    return images, None
  labels = prior.balanced_labels(num)
  chunks = track(
    prior.chunks(prng.stream(root, 'sample'), num, labels),
    -(-num // CHUNK),
    'Drawing',
  )
  return np.concatenate([np.asarray(chunk) for chunk in chunks]), labels


def _agreement(
  config: ConfigDict, images: np.ndarray, labels: np.ndarray, num_classes: int
) -> dict[str, Any]:
  """How often a classifier sees the class that images were drawn for."""
  classifier = reference_sets.dataset_classifier(config.dataset)
  predicted = classifier_lib.labels(classifier, images)
  return classifier_lib.agreement(predicted, labels, num_classes)


def _provenance(trained: TrainedVQ, values: flags.FlagValues) -> dict[str, Any]:
  """What all metrics depend on."""
  config = trained.config
  return {
    'checkpoint_step': trained.step,
    'dataset': config.dataset.name,
    'split': values.split,
    'likelihood': config.likelihood,
    'scored': values.scored,
    'binarise': config.dataset.binarise,
    'seed': values.seed,
    'moving_average': values.ema,
  }


def _num_scored(values: flags.FlagValues, length: int) -> int:
  """The number of images to score.

  Raises:
    UserError: if more reconstructions are asked for than the split has images.
  """
  num = values.num_samples
  if values.scored == _PRIOR or num <= length:
    return num
  if values['num_samples'].present:
    raise UserError(
      f'--num_samples={num}: the split {values.split} has {length:,} images to '
      'reconstruct; give fewer'
    )
  return length


def _reference_set(
  values: flags.FlagValues,
  config: ConfigDict,
  requested: Sequence[str],
  num: int,
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
    num,
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
