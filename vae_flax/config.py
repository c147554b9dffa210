"""The configuration of a VAE: its fields, their defaults and their checks."""

import math

from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import optimisers
from common_flax import workdir as workdir_lib
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.config import UserError
from common_flax.data.worlds import WORLDS
from vae_flax.likelihoods import LIKELIHOODS
from vae_flax.models import ACTIVATIONS
from vae_flax.models import MODELS

MAX_DRAWS = 10**6  # of z for an image
BINARISATIONS = ('none', 'stochastic', 'fixed', 'threshold')
OBJECTIVES = ('elbo', 'iwae', 'dreg')
KLS = ('closed_form', 'monte_carlo')


def default() -> ConfigDict:
  """Every field of a VAE's configuration, locked: one for the digits."""
  config = config_lib.base()
  config.dataset.binarise = 'stochastic'  # or 'fixed', 'threshold', 'none'
  config.dataset.binarise_seed = 0  # of 'fixed'

  config.model = model = ConfigDict()
  model.name = 'conv'  # or 'mlp'
  model.latent_size = 32
  model.base_features = 32  # of 'conv'
  model.hidden_sizes = (200, 200)  # of 'mlp'; the decoder's in reverse
  model.activation = 'relu'
  model.max_log_var = 10.0  # log-variances stay within plus and minus this

  config.likelihood = 'bernoulli'
  config.likelihood_scale = 0.1  # standard deviation of 'gaussian'
  config.objective = 'elbo'  # or 'iwae', 'dreg'
  config.num_importance_samples = 1  # draws of z an image
  config.kl = 'closed_form'  # or 'monte_carlo'; of 'elbo'
  config.beta = 1.0  # weight of the divergence; of 'elbo', as all below
  config.kl_warmup_steps = 0  # steps in which the weight rises to beta
  config.free_bits_nats = 0.0  # of each latent

  # For each image, where `evaluate` is not told otherwise.
  config.evaluation_samples = 5000

  config.optimizer = optimisers.default(learning_rate=1e-3, b1=0.9, b2=0.999)
  return config.lock()


def _check_observation(config: ConfigDict) -> None:
  """Bernoulli is of binary images, and nothing else is."""
  is_binary = LIKELIHOODS[config.likelihood](config.likelihood_scale).is_binary
  if is_binary:
    require(
      config.dataset.binarise != 'none',
      config,
      'dataset.binarise',
      f'likelihood={config.likelihood} is of binary images, and grey ones have '
      'no likelihood under it; take stochastic, fixed or threshold, or '
      'likelihood=logistic',
    )
  else:
    require(
      config.dataset.binarise == 'none',
      config,
      'dataset.binarise',
      f'likelihood={config.likelihood} is of grey images; take none, or '
      'likelihood=bernoulli',
    )


def _check_objective(config: ConfigDict) -> None:
  """The importance-weighted bounds have no divergence to weigh."""
  if config.objective == 'elbo':
    require(
      config.kl == 'closed_form' or config.free_bits_nats == 0,
      config,
      'free_bits_nats',
      'needs kl=closed_form: the larger of a noisy estimate and a bound is '
      'biased',
    )
    return
  plain = default()
  for name in ('kl', 'beta', 'kl_warmup_steps', 'free_bits_nats'):
    require(
      config[name] == plain[name],
      config,
      name,
      f'is of objective=elbo; with {config.objective} leave it at '
      f'{plain[name]!r}',
    )


def check(config: ConfigDict) -> None:
  """Checks every field of a VAE's configuration.

  Raises:
    UserError: naming the first field that is wrong.
  """
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  require(
    config.dataset.name not in WORLDS,
    config,
    'dataset.name',
    'is of points; take images such as digits',
  )
  require_one_of(config, 'dataset.binarise', BINARISATIONS)
  require(
    0 <= config.dataset.binarise_seed < 2**32,
    config,
    'dataset.binarise_seed',
    'must be from 0 to 2^32 - 1',
  )
  require_one_of(config, 'model.name', MODELS)
  try:
    MODELS[config.model.name].check_image_size(config.dataset.image_size)
  except ValueError as error:
    raise UserError(f'config.dataset.image_size: {error}') from error
  features = ('model.latent_size', 'model.base_features')
  require_at_least(config, 1, *features)
  require_at_most(config, config_lib.MAX_FEATURES, *features)
  require(
    config.model.hidden_sizes
    and all(
      isinstance(size, int) and 1 <= size <= config_lib.MAX_FEATURES
      for size in config.model.hidden_sizes
    ),
    config,
    'model.hidden_sizes',
    'must be numbers of units, each at least 1 and at most '
    f'{config_lib.MAX_FEATURES:,}, as (200, 200)',
  )
  require_one_of(config, 'model.activation', ACTIVATIONS)
  require(
    0 < config.model.max_log_var <= 80,  # e^88 is more than float32 holds
    config,
    'model.max_log_var',
    'must be above 0 and at most 80',
  )
  require_one_of(config, 'likelihood', LIKELIHOODS)
  require(
    1e-4 <= config.likelihood_scale <= 1e4,
    config,
    'likelihood_scale',
    'must be from 0.0001 to 10,000; images are in [0, 1)',
  )
  _check_observation(config)
  require_one_of(config, 'objective', OBJECTIVES)
  require_at_least(config, 1, 'num_importance_samples', 'evaluation_samples')
  require_at_most(
    config, MAX_DRAWS, 'num_importance_samples', 'evaluation_samples'
  )
  require_one_of(config, 'kl', KLS)
  require_at_least(config, 0, 'kl_warmup_steps')
  for name in ('beta', 'free_bits_nats'):
    require(
      0 <= config[name] < math.inf,
      config,
      name,
      'must be at least 0 and finite',
    )
  _check_objective(config)
  optimisers.check(config, 'optimizer')


def has_fixed_steps(config: ConfigDict) -> bool:
  """Whether a schedule depends on `num_steps`, so that it may not change."""
  return config.optimizer.schedule != 'constant'


def read(workdir: epath.PathLike) -> ConfigDict:
  """The config of the run that a workdir holds, checked.

  Raises:
    UserError: if it holds none, or one that is wrong or cannot be read.
  """
  return workdir_lib.read_config(workdir, default(), check)
