"""Estimates Pr(x) of a data set under a trained VAE, and how it comes about.

  python -m vae_flax.evaluate --workdir=DIR [--split=test] [--seed=0]
      [--num_importance_samples=5000] [--noema]

Every image of the split counts once. Prints a table and writes
`evaluation.json` in the workdir.

Dimensions: N images, Z latent size.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import sys
import time
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import commands
from common_flax import prng
from common_flax import runs
from common_flax import terminal
from common_flax import workdir as workdir_lib
from common_flax.data.source import Source
from vae_flax import estimation
from vae_flax import generation
from vae_flax import train as train_lib
from vae_flax import trained as trained_lib
from vae_flax.likelihoods import bits_per_dim
from vae_flax.losses import gaussian_kl
from vae_flax.trained import Trained

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


def _active_units(trained: Trained, root: jax.Array) -> int:
  """Burda et al.'s count, on the first images that it was trained on."""
  config = trained.config
  source = train_lib.prepare_source(
    config, runs.load_source(config.dataset, config.dataset.split)
  )
  images = runs.first_examples(source, train_lib.NUM_WATCHED)
  x = generation.observe(trained.vae, prng.stream(root, 'observe', 1), images)
  use = generation.latent_use(trained.vae, trained.params, x)
  return int(use['active_units'])


def _standard_error(values: np.ndarray) -> float:
  return float(values.std(ddof=min(1, len(values) - 1)) / np.sqrt(len(values)))


def evaluate(
  trained: Trained, source: Source, seed: int, num_samples: int
) -> dict[str, Any]:
  """The metrics of a trained VAE on a source.

  Args:
    trained: the networks.
    source: of the images.
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
    'active_units': _active_units(trained, root),
    'aggregated_posterior_kl_nats': aggregated,
    'mutual_information_nats': kl - aggregated,
    'kl_per_latent_nats': images['kl'].mean(axis=0).tolist(),
  }


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'split', 'test', 'Of the data set it was trained on.', flag_values=values
  )
  flags.DEFINE_integer(
    'num_importance_samples',
    None,
    "For each image; by default the config's evaluation_samples.",
    1,
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  workdir = commands.existing_workdir(values)
  trained = trained_lib.load(workdir, use_ema=values.ema)
  config = trained.config
  source = train_lib.prepare_source(
    config, runs.load_source(config.dataset, values.split)
  )
  num_samples = values.num_importance_samples or config.evaluation_samples
  start = time.monotonic()
  metrics = evaluate(trained, source, values.seed, num_samples)
  seconds = time.monotonic() - start
  provenance = {
    'checkpoint_step': trained.step,
    'dataset': config.dataset.name,
    'split': values.split,
    'num_images': len(source),
    'num_importance_samples': num_samples,
    'likelihood': config.likelihood,
    'binarise': config.dataset.binarise,
    'seed': values.seed,
    'moving_average': values.ema,
    'seconds': seconds,
  }
  shown = {k: v for k, v in metrics.items() if not isinstance(v, list)}
  terminal.print_numbers(
    f'{len(source):,} images of {config.dataset.name}, split {values.split}, '
    f'{num_samples:,} importance samples each, step {trained.step:,}',
    shown,
  )
  path = workdir_lib.write_evaluation(workdir, metrics, provenance)
  print(f'In {terminal.duration(seconds)}. All numbers: {path}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
