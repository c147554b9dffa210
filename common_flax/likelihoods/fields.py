"""The fields of a config that choose a likelihood and what it observes."""

from ml_collections import ConfigDict

from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.effects import ALWAYS
from common_flax.effects import Effects
from common_flax.effects import needs
from common_flax.likelihoods import Likelihood
from common_flax.likelihoods import LIKELIHOODS

MAX_COMPONENTS = 10_000  # of a mixture
BINARISATIONS = ('none', 'stochastic', 'fixed', 'threshold')

# When the fields have an effect.
EFFECTS: Effects = {
  'dataset.binarise': ALWAYS,
  'dataset.binarise_seed': (needs('dataset.binarise', 'fixed'),),
  'likelihood': ALWAYS,
  'likelihood_scale': (needs('likelihood', 'gaussian'),),
  'likelihood_components': (needs('likelihood', 'logistic_mixture'),),
}


def add(config: ConfigDict) -> None:
  """Adds the fields with their defaults to a family's, which are unlocked."""
  config.dataset.binarise = 'stochastic'  # or 'fixed', 'threshold', 'none'
  config.dataset.binarise_seed = 0  # for 'fixed'
  config.likelihood = 'bernoulli'
  config.likelihood_scale = 0.1  # standard deviation of 'gaussian'
  config.likelihood_components = 10  # of 'logistic_mixture'


def check(config: ConfigDict) -> None:
  """Checks the fields.

  Raises:
    UserError: naming the first that is invalid.
  """
  require_one_of(config, 'dataset.binarise', BINARISATIONS)
  require(
    0 <= config.dataset.binarise_seed < 2**32,
    config,
    'dataset.binarise_seed',
    'must be from 0 to 2^32 - 1',
  )
  require_one_of(config, 'likelihood', LIKELIHOODS)
  require(
    1e-4 <= config.likelihood_scale <= 1e4,
    config,
    'likelihood_scale',
    'must be from 0.0001 to 10,000, in units of the pixel range',
  )
  require_at_least(config, 1, 'likelihood_components')
  require_at_most(config, MAX_COMPONENTS, 'likelihood_components')
  _check_observation(config)


def _check_observation(config: ConfigDict) -> None:
  """Checks that binary likelihoods get binary images, and others grey ones."""
  require(
    config.dataset.binarise != 'fixed' or config.dataset.crop != 'random',
    config,
    'dataset.binarise',
    'dataset.crop=random shows other pixels in each epoch, and these are drawn '
    'once; use stochastic or threshold',
  )
  if LIKELIHOODS[config.likelihood](config.likelihood_scale).is_binary:
    require(
      config.dataset.binarise != 'none',
      config,
      'dataset.binarise',
      f'likelihood={config.likelihood} needs binary images, not grey ones; use '
      'stochastic, fixed or threshold, or likelihood=logistic',
    )
  else:
    require(
      config.dataset.binarise == 'none',
      config,
      'dataset.binarise',
      f'likelihood={config.likelihood} needs grey images; use none, or '
      'likelihood=bernoulli',
    )


def create(config: ConfigDict, num_channels: int) -> Likelihood:
  """The likelihood of images with `num_channels` channels."""
  return LIKELIHOODS[config.likelihood](
    config.likelihood_scale, config.likelihood_components, num_channels
  )
