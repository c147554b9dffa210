"""Evaluates a trained VAE: its likelihood, and the images it draws.

  python -m vae_flax.evaluate --workdir=DIR [--metrics=NAME,NAME] [--split=test]
      [--num_importance_samples=5000] [--num_samples=10000] [--seed=0]
      [--prior=trained|mixture] [--prior_components=50]
      [--num_ais_images=100] [--num_simulated=16] [--num_temperatures=1000]
      [--num_chains=16]
      [--ais_start=prior|encoder]
      [--step=STEP] [--all_checkpoints]
      [--features=inception|classifier|random] [--inception_weights=FILE]
      [--resize=clean|legacy] [--num_neighbours=5] [--noema]
      [--save_samples=FILE.npz]

`likelihood` estimates Pr(x) by importance sampling and breaks it down into its
terms; every image of the split counts once. `ais`, which must be asked for,
estimates Pr(x) of its first images by annealed importance sampling, and bounds
it from both sides on images that the VAE draws. The other metrics compare
images drawn from the prior with real ones as the VAE observes them, in the
features of a network: fid, kid, inception_score, precision, recall, density,
coverage, nearest and sliced_wasserstein. Real images of another split are
scored as a baseline. Prints a table and writes `evaluation.json` in the
workdir, and `nearest.png`, samples beside their nearest training images.
--all_checkpoints evaluates every checkpoint, selects the best by the first
metric named, and draws `evaluation.png`. --save_samples keeps the images that
were scored, so that the numbers can be counted again.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import sys
import time
from typing import Any

from absl import flags
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import prng
from common_flax.annealing import audit
from common_flax.annealing.audit import AIS
from common_flax.cli import commands
from common_flax.data.source import report_of
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.evaluation import reference_sets
from common_flax.evaluation import report
from common_flax.evaluation.protocol import METRICS
from common_flax.evaluation.protocol import Protocol
from common_flax.evaluation.protocol import Scores
from common_flax.evaluation.reference_sets import ReferenceSet
from common_flax.latents import CHUNK
from common_flax.likelihoods import observations
from common_flax.progress import track
from common_flax.workdir import layout as workdir_lib
from vae_flax import config as vae_config
from vae_flax import trained as trained_lib
from vae_flax.metrics import ais
from vae_flax.metrics import likelihood
from vae_flax.priors import fitted
from vae_flax.trained import TrainedVAE

LIKELIHOOD = 'likelihood'  # beside the metrics of `evaluation.protocol`
_NUM_SAMPLES = 10_000


def _binarise_seed(config: ConfigDict, seed: int) -> int | None:
  """The seed that binary images were drawn with; None if they were not."""
  seeds = {'fixed': config.dataset.binarise_seed, 'stochastic': seed}
  return seeds.get(config.dataset.binarise)


def _define_flags(values: flags.FlagValues) -> None:
  report.define_flags(values)
  flags.DEFINE_integer(
    'num_importance_samples',
    None,
    "Importance samples per image; by default the config's evaluation_samples.",
    1,
    vae_config.MAX_DRAWS,
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_samples',
    _NUM_SAMPLES,
    'Number of images drawn from the prior.',
    1,
    flag_values=values,
  )
  ais.define_flags(values)
  fitted.define_flags(values)


def _requested_metrics(values: flags.FlagValues) -> Sequence[str]:
  """The metrics that the flags name.

  Raises:
    UserError: if one is unknown, or there are no samples to save.
  """
  requested = reference_sets.requested_metrics(
    values.metrics or (LIKELIHOOD, *METRICS), (LIKELIHOOD, AIS, *METRICS)
  )
  if values.save_samples and not {*requested} & {*METRICS}:
    raise UserError(
      f'--save_samples={values.save_samples}: {" and ".join(requested)} draws '
      'no samples; name another metric with --metrics, or drop the flag'
    )
  return requested


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  report.check_flags(values)
  start = time.monotonic()
  workdir = commands.existing_workdir(values)
  config = vae_config.read(workdir)
  requested = _requested_metrics(values)
  _check_flags(values, requested)
  workdir_lib.check_trained(workdir)
  source = observations.prepare_source(
    config, data.load(config.dataset, values.split)
  )
  for line in report_of(source).lines():
    print(line)
  num_draws = values.num_importance_samples or config.evaluation_samples
  training_source = (
    likelihood.training_source(config) if LIKELIHOOD in requested else None
  )
  reference_set = _reference_set(values, config, requested)
  baseline = {}
  if reference_set is not None:
    baseline = reference_set.baseline_metrics(values.num_samples)

  def evaluate_checkpoint(step: int | None) -> report.Evaluation:
    trained = trained_lib.load(workdir, use_ema=values.ema, step=step)
    trained = fitted.with_prior(values, trained)
    metrics, picture = {}, None
    provenance = _provenance(trained, values)
    if LIKELIHOOD in requested:
      metrics |= likelihood.measure(
        trained, source, training_source, values.seed, num_draws
      )
      provenance['num_images'] = len(source)
      provenance['num_importance_samples'] = num_draws
    if AIS in requested:
      settings = audit.settings(values, len(source))
      metrics |= ais.measure(
        trained, source, values.seed, settings, values.ais_start, num_draws
      )
      provenance |= settings.provenance | {'ais_start': values.ais_start}
      provenance['num_importance_samples'] = num_draws
    if reference_set is not None:
      scores = _score_samples(
        trained, reference_set, values.seed, values.num_samples
      )
      picture = scores.picture
      metrics |= scores.metrics
      metrics |= {f'real_{k}': v for k, v in baseline.items()}
      report.save_samples(values, 'images', [scores], trained.class_names)
      provenance['num_samples'] = values.num_samples
      provenance |= reference_set.provenance(values.num_samples)
    provenance['seconds'] = time.monotonic() - start
    return report.Evaluation(metrics, provenance, picture)

  report.evaluate_run(
    values, evaluate_checkpoint, f'{config.dataset.name}, split {values.split}'
  )


def _provenance(
  trained: TrainedVAE, values: flags.FlagValues
) -> dict[str, Any]:
  """What all metrics depend on."""
  config = trained.config
  prior = config.model.prior
  if values.prior != fitted.TRAINED:
    prior = f'{values.prior} of {values.prior_components}, fitted afterwards'
  return {
    'checkpoint_step': trained.step,
    'dataset': config.dataset.name,
    'split': values.split,
    'likelihood': config.likelihood,
    'prior': prior,
    'binarise': config.dataset.binarise,
    'binarise_seed': _binarise_seed(config, values.seed),
    'seed': values.seed,
    'moving_average': values.ema,
  }


def _check_flags(values: flags.FlagValues, requested: Sequence[str]) -> None:
  """Refuses flags that have no effect on the requested metrics."""
  reference_sets.check_flags(values, requested)
  ais.check_flags(values, requested)
  fitted.check_flags(values)
  if not {LIKELIHOOD, AIS} & {*requested}:
    reason = f'without --metrics={LIKELIHOOD}; add it'
    commands.refuse_unused(values, reason, 'num_importance_samples')
  if not {*requested} & {*METRICS}:
    reason = f'on {", ".join(requested)}; use --num_importance_samples'
    commands.refuse_unused(values, reason, 'num_samples')


def _reference_set(
  values: flags.FlagValues, config: ConfigDict, requested: Sequence[str]
) -> ReferenceSet | None:
  """The real images to score samples against, if any metric needs them."""
  metrics = tuple(name for name in requested if name in METRICS)
  if not metrics:
    return None

  def open_split(split: str) -> Source:
    source = data.load(config.dataset, split)
    return observations.as_observed(
      config, observations.prepare_source(config, source)
    )

  return reference_sets.create_reference_set(
    open_split,
    config.dataset,
    values.split,
    reference_sets.extractor_spec(values),
    Protocol(metrics, values.num_neighbours),
    values.num_samples,
  )


def _score_samples(
  trained: TrainedVAE, reference_set: ReferenceSet, seed: int, num_samples: int
) -> Scores:
  """Scores images drawn from the prior."""
  key = prng.stream(prng.root_key(seed), 'sample')
  labels = trained.balanced_labels(num_samples)
  chunks = track(
    trained.chunks(key, num_samples, labels),
    -(-num_samples // CHUNK),
    'Drawing',
  )
  samples = np.concatenate([np.asarray(chunk) for chunk in chunks])
  scores = reference_set.score(samples)
  return scores._replace(samples=samples, labels=labels)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
