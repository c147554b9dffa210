"""A mixture of normal distributions, fitted to where a trained encoder maps to.

The decoder of a trained VAE has learned to decode draws of the aggregated
posterior, which is seldom quite N(0, I). A prior fitted to it, when everything
else stays as it is, raises log Pr(x) on average and makes better samples
(Ghosh et al. 2020, arXiv:1903.12436, section 4).

Dimensions: N images, T top latents.
"""

import dataclasses
import warnings

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from common_flax import data
from common_flax import prng
from common_flax.cli import commands
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.likelihoods import observations
from common_flax.progress import track
from vae_flax import generation
from vae_flax.config import MAX_COMPONENTS
from vae_flax.priors.learned import Mixture
from vae_flax.trained import TrainedVAE

TRAINED, MIXTURE = 'trained', 'mixture'
_MAX_IMAGES = 10_000
_LEAST_VARIANCE = 1e-3  # of a component
_BOUND = 10.0  # on the absolute value of log-variances


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags that choose a prior."""
  flags.DEFINE_enum(
    'prior',
    TRAINED,
    (TRAINED, MIXTURE),
    "The run's own prior, or a mixture of normal distributions fitted to the "
    'latents of training images.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'prior_components',
    50,
    f'Components of --prior={MIXTURE}.',
    1,
    MAX_COMPONENTS,
    flag_values=values,
  )


def check_flags(values: flags.FlagValues) -> None:
  """Refuses a number of components of a prior that has none.

  Raises:
    UserError: naming the flag.
  """
  if values.prior != MIXTURE:
    reason = f'without --prior={MIXTURE}; add it'
    commands.refuse_unused(values, reason, 'prior_components')


def with_prior(values: flags.FlagValues, trained: TrainedVAE) -> TrainedVAE:
  """Returns the VAE with the prior that the flags choose."""
  if values.prior == TRAINED:
    return trained
  return with_mixture(trained, values.prior_components, values.seed)


def with_mixture(
  trained: TrainedVAE, num_components: int, seed: int
) -> TrainedVAE:
  """Returns the VAE with a mixture as its prior, fitted to training images.

  Args:
    trained: its prior is replaced, whatever it is.
    num_components: components of the mixture.
    seed: of the draws of latents and of the fit.

  Raises:
    UserError: if there are fewer images than components, or the training images
      cannot be read.
  """
  config = trained.config
  source = observations.prepare_source(
    config, data.load(config.dataset, config.dataset.split)
  )
  if len(source) < num_components:
    raise UserError(
      f'--prior_components={num_components}: is more than the {len(source):,} '
      'training images; use fewer'
    )
  drawn = _draw(trained, source, prng.root_key(seed))
  fitted = GaussianMixture(
    num_components,
    covariance_type='diag',
    reg_covar=_LEAST_VARIANCE,
    random_state=np.random.RandomState(seed % 2**32),
  )
  with warnings.catch_warnings():  # a mixture near the best one will do
    warnings.simplefilter('ignore', ConvergenceWarning)
    fitted.fit(drawn)
  dtype = trained.vae.dtype
  prior = {
    'logits': np.log(fitted.weights_),
    'mean': fitted.means_,
    # What `soft_bound` maps to the log-variances.
    'log_var': _BOUND * np.arctanh(np.log(fitted.covariances_) / _BOUND),
  }
  return dataclasses.replace(
    trained,
    vae=dataclasses.replace(
      trained.vae,
      prior=Mixture(num_components, drawn.shape[1], _BOUND, dtype),
    ),
    params={
      **trained.params,
      'prior': jax.tree.map(lambda y: jnp.asarray(y, dtype), prior),
    },
  )


def _draw(trained: TrainedVAE, source: Source, root: jax.Array) -> np.ndarray:
  """Draws top latents [N, T] of the first images from their posteriors."""
  vae, params = trained.vae, trained.params
  images = data.first_examples(source, _MAX_IMAGES)
  drawn = []
  num_chunks = -(-len(images) // CHUNK)
  for numbers in track(
    chunks_of_numbers(len(images)), num_chunks, 'Fitting the prior'
  ):
    x = generation.observe_by_number(
      vae,
      prng.stream(root, 'observe', 2),
      images[np.minimum(numbers, len(images) - 1)],
      jnp.asarray(numbers),
    )
    labels = generation.labels_of(
      vae, source, np.minimum(numbers, len(images) - 1)
    )
    drawn.append(np.asarray(generation.encode(vae, params, x, labels)))
  posteriors = np.concatenate(drawn, axis=1)[:, : len(images)]
  mean, log_var = posteriors[..., : vae.top_size]
  random = np.random.default_rng(np.asarray(jax.random.key_data(root)))
  return mean + np.exp(0.5 * log_var) * random.standard_normal(mean.shape)
