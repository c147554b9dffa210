"""The likelihood of a data set under a trained VAE, broken down into its terms.

Dimensions: N images, H height, W width, C channels, Z latent
size, G groups of latents, see `inference.per_group`.
"""

from collections.abc import Iterator
import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax import data
from common_flax import prng
from common_flax.annealing.weights import standard_error
from common_flax.data.source import Source
from common_flax.likelihoods import bits_per_dim
from common_flax.likelihoods import observations
from common_flax.progress import track
from vae_flax import estimation
from vae_flax import generation
from vae_flax.priors import learned
from vae_flax.trained import TrainedVAE

_ACTIVE_NATS = 0.1  # divergence of a group of latents that is in use
_AGGREGATED_DRAWS = 2000  # of z, to estimate KL[q(z) || Pr(z)]


def _batches(
  source: Source,
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
  """Yields indices, images and labels in batches; the last is padded."""
  size = estimation.CHUNK_IMAGES
  for start in range(0, len(source), size):
    numbers = np.minimum(np.arange(start, start + size), len(source) - 1)
    examples = [source[int(i)] for i in numbers]
    images = np.stack([each['image'] for each in examples])
    labels = np.array([each['label'] for each in examples], np.int32)
    yield tuple(map(jnp.asarray, (numbers, images, labels)))


def _per_image(
  trained: TrainedVAE, source: Source, root: jax.Array, num_samples: int
) -> dict[str, np.ndarray]:
  """The likelihood terms [N] of every image, and of one layer its posterior.

  Mean and log-variance of the posterior are [N, Z], `kl` is [N, G].
  """
  observe_root = prng.stream(root, 'observe')
  draw_root = prng.stream(root, 'evaluate')
  vae, params = trained.vae, trained.params
  rows = []
  num_batches = -(-len(source) // estimation.CHUNK_IMAGES)
  for numbers, images, given in track(
    _batches(source), num_batches, 'Estimating Pr(x)'
  ):
    x = generation.observe_by_number(vae, observe_root, images, numbers)
    labels = given if vae.is_conditional else None
    found = generation.evidence(vae, params, x, labels)
    keys = prng.by_number(draw_root, numbers)
    estimates = estimation.estimate(
      vae, params, x, found, keys, num_samples, labels, trained.prior
    )
    row = estimates._asdict()
    if not vae.scales:
      row |= {
        name: np.asarray(array, np.float64)
        for name, array in zip(('mean', 'log_var'), found, strict=True)
      }
    rows.append(row)
  return {
    name: np.concatenate([row[name] for row in rows])[: len(source)]
    for name in rows[0]
  }


def training_source(config: ConfigDict) -> Source:
  """The images that the VAE was trained on."""
  return observations.prepare_source(
    config, data.load(config.dataset, config.dataset.split)
  )


def _active_units(
  trained: TrainedVAE, training_source: Source, root: jax.Array
) -> int:
  """Counts the active units (Burda et al. 2015)."""
  vae = trained.vae
  images = data.first_examples(training_source, generation.NUM_WATCHED)
  x = generation.observe(vae, prng.stream(root, 'observe', 1), images)
  labels = generation.labels_of(vae, training_source, range(len(images)))
  use = generation.latent_use(vae, trained.params, x, labels)
  return int(use['active_units'])


def measure(
  trained: TrainedVAE,
  source: Source,
  training_source: Source,
  seed: int,
  num_samples: int,
) -> dict[str, Any]:
  """Evaluates the likelihood of a trained VAE on a source.

  Args:
    trained: the networks.
    source: of the images.
    training_source: the training images; active units are counted on the first.
    seed: of all draws, including binary images.
    num_samples: importance samples per image.

  Returns:
    The metrics by name, means over images unless noted. The error of `nll_nats`
    is `nll_standard_error_nats`, of which `importance_standard_error_nats` is
    the part due to importance sampling. Neither has the bias of finite samples:
    `tenfold_gain_nats` is how much `nll_nats` falls from a tenth of the samples
    to all of them; `effective_samples` is a median over images, and
    `lowest_effective_samples` the least.
    `aggregated_posterior_kl_nats` is the KL divergence of the aggregated
    posterior from the prior, `mutual_information_nats` the rest of `kl_nats`.
    A hierarchy has `active_groups`, those with at least 0.1 nats, and
    `kl_per_group_nats` instead of these two and of `kl_per_latent_nats`, which
    a learned prior does not have either.
  """
  root = prng.root_key(seed)
  images = _per_image(trained, source, root, num_samples)
  nll = float(-images['log_prob'].mean())
  nll_of_tenth = float(-images['log_prob_of_tenth'].mean())
  kl = float(images['kl'].sum(axis=1).mean())
  elbo = float(images['elbo'].mean())
  errors = images['standard_error']
  return {
    'nll_nats': nll,
    'nll_standard_error_nats': standard_error(images['log_prob']),
    'importance_standard_error_nats': float(
      np.sqrt(np.sum(errors**2)) / len(errors)
    ),
    'tenfold_gain_nats': nll_of_tenth - nll if num_samples > 1 else math.nan,
    'effective_samples': float(np.median(images['effective_samples'])),
    'lowest_effective_samples': float(images['effective_samples'].min()),
    'elbo_nats': elbo,
    'reconstruction_nats': elbo + kl,
    'kl_nats': kl,
    'bits_per_dim': bits_per_dim(
      nll, int(np.prod(trained.vae.image_shape)), trained.vae.likelihood
    ),
    'active_units': _active_units(trained, training_source, root),
    **_divergences(trained, images, seed),
  }


def _divergences(
  trained: TrainedVAE, images: dict[str, np.ndarray], seed: int
) -> dict[str, Any]:
  """The parts of `kl_nats` by latents, or by groups of a hierarchy."""
  kl = images['kl'].mean(axis=0)
  if trained.vae.scales:
    return {
      'active_groups': int(np.sum(kl > _ACTIVE_NATS)),
      'kl_per_group_nats': kl.tolist(),
    }
  random = np.random.default_rng(seed)
  chosen = random.permutation(len(images['kl']))[:_AGGREGATED_DRAWS]
  mean, log_var = images['mean'][chosen], images['log_var'][chosen]
  z = mean + np.exp(0.5 * log_var) * random.standard_normal(mean.shape)
  prior, gain = trained.prior, None
  if prior is not None:
    gain = np.asarray(learned.gain(prior, jnp.asarray(z, prior.mean.dtype)))
  aggregated = estimation.aggregated_posterior_kl(
    z, images['mean'], images['log_var'], gain
  )
  divergences = {
    'aggregated_posterior_kl_nats': aggregated,
    'mutual_information_nats': float(images['kl'].sum(axis=1).mean())
    - aggregated,
  }
  if prior is None:
    divergences['kl_per_latent_nats'] = kl.tolist()
  return divergences
