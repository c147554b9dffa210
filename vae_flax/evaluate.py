"""Measures a trained VAE: Pr(x) of a data set, and the images it draws.

  python -m vae_flax.evaluate --workdir=DIR [--metrics=NAME,NAME] [--split=test]
      [--num_importance_samples=5000] [--num_samples=10000] [--seed=0]
      [--step=STEP] [--all_checkpoints]
      [--features=inception|classifier|random] [--inception_weights=FILE]
      [--resize=clean|legacy] [--num_neighbours=5] [--noema]

`likelihood` estimates Pr(x) by importance sampling, and tells how it comes
about; every image of the split counts once. The other metrics compare images
drawn from the prior with real ones as the VAE sees them, in a network's
features: fid, kid, inception_score, precision, recall, density, coverage,
nearest and sliced_wasserstein. What real images of another split score stands
beside them. Prints a table and writes `evaluation.json` in the workdir, and
`nearest.png`, samples to the left of their nearest training images. With
--all_checkpoints each checkpoint is measured, the best by the first metric
named, and `evaluation.png` drawn.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import sys
import time
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import commands
from common_flax import evaluation
from common_flax import prng
from common_flax import references
from common_flax import reports
from common_flax import sources
from common_flax import terminal
from common_flax import workdir as workdir_lib
from common_flax.data.source import Source
from common_flax.evaluation import Protocol
from common_flax.references import Judged
from common_flax.references import Reference
from vae_flax import config as vae_config
from vae_flax import estimation
from vae_flax import generation
from vae_flax import train as train_lib
from vae_flax import trained as trained_lib
from vae_flax.likelihoods import bits_per_dim
from vae_flax.losses import gaussian_kl
from vae_flax.trained import Trained

LIKELIHOOD = 'likelihood'  # a metric beside those of `evaluation`
_NUM_SAMPLES = 10_000
_AGGREGATED_DRAWS = 2000  # of z, for the gap between prior and posterior


def _batches(source: Source) -> Iterator[tuple[jax.Array, jax.Array]]:
  """Numbers and images, always as many; the last ones come again to fill up."""
  size = estimation.CHUNK_IMAGES
  for start in range(0, len(source), size):
    numbers = np.minimum(np.arange(start, start + size), len(source) - 1)
    images = np.stack([source[int(i)]['image'] for i in numbers])
    yield jnp.asarray(numbers), jnp.asarray(images)


def _per_image(
  trained: Trained, source: Source, root: jax.Array, num_samples: int
) -> dict[str, np.ndarray]:
  """The terms of every image, float64, and its posterior [N, Z]."""
  observe_root = prng.stream(root, 'observe')
  draw_root = prng.stream(root, 'evaluate')
  vae, params = trained.vae, trained.params
  rows = []
  num_batches = -(-len(source) // estimation.CHUNK_IMAGES)
  for numbers, images in terminal.track(
    _batches(source), num_batches, 'Estimating Pr(x)'
  ):
    x = generation.observe_by_number(vae, observe_root, images, numbers)
    posterior = generation.encode(vae, params, x)
    keys = prng.by_number(draw_root, numbers)
    estimates = estimation.estimate(
      vae, params, x, posterior, keys, num_samples
    )
    mean, log_var = posterior
    rows.append(
      {
        **estimates._asdict(),
        'kl': np.asarray(gaussian_kl(mean, log_var), np.float64),
        'mean': np.asarray(mean, np.float64),
        'log_var': np.asarray(log_var, np.float64),
      }
    )
  return {
    name: np.concatenate([row[name] for row in rows])[: len(source)]
    for name in rows[0]
  }


def first_trained_on(config: ConfigDict) -> np.ndarray:
  """The first images that a VAE was trained on, uint8 [M, H, W, C]."""
  source = train_lib.prepare_source(
    config, sources.load(config.dataset, config.dataset.split)
  )
  return sources.first_examples(source, train_lib.NUM_WATCHED)


def _active_units(trained: Trained, images: np.ndarray, root: jax.Array) -> int:
  """Burda et al.'s count of the latents that change with the image."""
  x = generation.observe(trained.vae, prng.stream(root, 'observe', 1), images)
  use = generation.latent_use(trained.vae, trained.params, x)
  return int(use['active_units'])


def _standard_error(values: np.ndarray) -> float:
  return float(values.std(ddof=min(1, len(values) - 1)) / np.sqrt(len(values)))


def evaluate(
  trained: Trained,
  source: Source,
  trained_on: np.ndarray,
  seed: int,
  num_samples: int,
) -> dict[str, Any]:
  """The metrics of a trained VAE on a source.

  Args:
    trained: the networks.
    source: of the images.
    trained_on: uint8 [M, H, W, C], on which active units are counted.
    seed: of everything that is drawn, binary images included.
    num_samples: importance samples for each image.

  Returns:
    Means over images in nats; `nll_standard_error_nats` is of the mean over
    images, `importance_standard_error_nats` what of it the importance samples
    make; `effective_samples` is the median over images;
    `aggregated_posterior_kl_nats` the gap between prior and mean posterior, and
    `mutual_information_nats` the rest of the divergence.
  """
  root = prng.root_key(seed)
  images = _per_image(trained, source, root, num_samples)
  nll = float(-images['log_prob'].mean())
  kl = float(images['kl'].sum(axis=1).mean())
  elbo = float(images['elbo'].mean())
  random = np.random.default_rng(seed)
  chosen = random.permutation(len(source))[:_AGGREGATED_DRAWS]
  mean, log_var = images['mean'][chosen], images['log_var'][chosen]
  z = mean + np.exp(0.5 * log_var) * random.standard_normal(mean.shape)
  aggregated = estimation.aggregated_posterior_kl(
    z, images['mean'], images['log_var']
  )
  errors = images['standard_error']
  return {
    'nll_nats': nll,
    'nll_standard_error_nats': _standard_error(images['log_prob']),
    'importance_standard_error_nats': float(
      np.sqrt(np.sum(errors**2)) / len(errors)
    ),
    'effective_samples': float(np.median(images['effective_samples'])),
    'elbo_nats': elbo,
    'reconstruction_nats': elbo + kl,
    'kl_nats': kl,
    'bits_per_dim': bits_per_dim(
      nll, int(np.prod(trained.vae.image_shape)), trained.vae.likelihood
    ),
    'active_units': _active_units(trained, trained_on, root),
    'aggregated_posterior_kl_nats': aggregated,
    'mutual_information_nats': kl - aggregated,
    'kl_per_latent_nats': images['kl'].mean(axis=0).tolist(),
  }


def _binarise_seed(config: ConfigDict, seed: int) -> int | None:
  """Of the draw that made images binary, if they were drawn."""
  seeds = {'fixed': config.dataset.binarise_seed, 'stochastic': seed}
  return seeds.get(config.dataset.binarise)


def _define_flags(values: flags.FlagValues) -> None:
  reports.define_flags(values)
  flags.DEFINE_integer(
    'num_importance_samples',
    None,
    "For each image; by default the config's evaluation_samples.",
    1,
    vae_config.MAX_DRAWS,
    flag_values=values,
  )
  flags.DEFINE_integer(
    'num_samples',
    _NUM_SAMPLES,
    'Images drawn from the prior.',
    1,
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  start = time.monotonic()
  workdir = commands.existing_workdir(values)
  config = vae_config.read(workdir)
  workdir_lib.check_trained(workdir)
  source = train_lib.prepare_source(
    config, sources.load(config.dataset, values.split)
  )
  chosen = references.metrics_of(
    values.metrics, (LIKELIHOOD, *evaluation.METRICS)
  )
  num_draws = values.num_importance_samples or config.evaluation_samples
  trained_on = first_trained_on(config) if LIKELIHOOD in chosen else None
  reference = _reference(values, config, chosen)
  real = reference.baseline(values.num_samples) if reference else {}

  def measure(step: int | None) -> reports.Measured:
    trained = trained_lib.load(workdir, use_ema=values.ema, step=step)
    metrics, picture = {}, None
    provenance = {
      'checkpoint_step': trained.step,
      'dataset': config.dataset.name,
      'split': values.split,
      'likelihood': config.likelihood,
      'binarise': config.dataset.binarise,
      'binarise_seed': _binarise_seed(config, values.seed),
      'seed': values.seed,
      'moving_average': values.ema,
    }
    if LIKELIHOOD in chosen:
      metrics |= evaluate(trained, source, trained_on, values.seed, num_draws)
      provenance['num_images'] = len(source)
      provenance['num_importance_samples'] = num_draws
    if reference is not None:
      found, picture = _judge(
        trained, reference, values.seed, values.num_samples
      )
      metrics |= found | {f'real_{k}': v for k, v in real.items()}
      provenance['num_samples'] = values.num_samples
      provenance |= reference.provenance(values.num_samples)
    provenance['seconds'] = time.monotonic() - start
    return reports.Measured(metrics, provenance, picture)

  reports.evaluate(
    values, measure, f'{config.dataset.name}, split {values.split}'
  )


def _reference(
  values: flags.FlagValues, config: ConfigDict, chosen: Sequence[str]
) -> Reference | None:
  """What samples are compared with, if they are to be compared."""
  metrics = tuple(name for name in chosen if name != LIKELIHOOD)
  if not metrics:
    return None

  def open_split(split: str) -> Source:
    source = sources.load(config.dataset, split)
    return train_lib.as_seen(config, train_lib.prepare_source(config, source))

  return references.of_data(
    open_split,
    config.dataset,
    values.split,
    references.eyes_of(values),
    Protocol(metrics, values.num_neighbours),
    values.num_samples,
  )


def _judge(
  trained: Trained, reference: Reference, seed: int, num_samples: int
) -> Judged:
  """Judges images drawn from the prior."""
  key = prng.stream(prng.root_key(seed), 'sample')
  chunks = terminal.track(
    trained.chunks(key, num_samples),
    -(-num_samples // trained_lib.CHUNK),
    'Drawing',
  )
  samples = np.concatenate([np.asarray(chunk) for chunk in chunks])
  return reference.judge(samples[:num_samples])


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
