"""The configuration of a VAE: fields, defaults, effects and checks."""

import math

from etils import epath
from ml_collections import ConfigDict

from common_flax import config as config_lib
from common_flax import images
from common_flax import optimisers
from common_flax.config import require
from common_flax.config import require_at_least
from common_flax.config import require_at_most
from common_flax.config import require_one_of
from common_flax.data.worlds import WORLDS
from common_flax.effects import ALWAYS
from common_flax.effects import Condition
from common_flax.effects import Effects
from common_flax.effects import needs
from common_flax.likelihoods import fields
from common_flax.likelihoods.fields import MAX_COMPONENTS
from common_flax.nn.activations import ACTIVATIONS
from common_flax.workdir import layout as workdir_lib
from vae_flax.models import groups
from vae_flax.models import MODELS
from vae_flax.priors.learned import PRIORS

MAX_DRAWS = 10**6  # draws of z per image
OBJECTIVES = ('elbo', 'iwae', 'dreg')
CONDITIONINGS = ('none', 'label')
KLS = ('closed_form', 'monte_carlo')


def default() -> ConfigDict:
  """Returns every field with its default, locked: a VAE of the digits."""
  config = config_lib.base()
  fields.add(config)

  config.model = model = ConfigDict()
  model.name = 'conv'  # or 'mlp', 'hierarchical'
  model.latent_size = 32
  model.base_features = 32  # for 'conv'
  model.hidden_sizes = (200, 200)  # for 'mlp'; the decoder reverses them
  # For 'hierarchical', coarse ones first: (side, width, number, channels).
  model.groups = ((1, 128, 2, 16), (8, 64, 2, 8), (16, 32, 1, 4))
  model.prior = 'normal'  # N(0, I), or learned: 'mixture', 'vampprior'
  model.prior_components = 500  # of a learned prior
  model.conditioning = 'none'  # or 'label'
  model.activation = 'relu'
  model.max_log_var = 10.0  # bound on the absolute value of log-variances

  config.objective = 'elbo'  # or 'iwae', 'dreg'
  config.num_importance_samples = 1  # draws of z per image
  config.kl = 'closed_form'  # or 'monte_carlo'
  config.beta = 1.0  # weight of the KL divergence
  config.kl_warmup_steps = 0  # steps over which the weight rises to beta
  # Per latent; per group of a hierarchy; of a layer with a learned prior.
  config.free_bits_nats = 0.0

  # What the total correlation weighs beyond its part in the divergence.
  config.total_correlation_weight = 0.0

  # Default of `evaluate --num_importance_samples`: draws of z per image.
  config.evaluation_samples = 5000

  config.optimizer = optimisers.default(learning_rate=1e-3, b1=0.9, b2=0.999)
  return config.lock()


def _sized_by(field: str) -> tuple[Condition, ...]:
  """The condition of a field that sets the width of some models."""
  names = [name for name, model in MODELS.items() if model.size_field == field]
  return (needs('model.name', *names),)


_ELBO = needs('objective', 'elbo')
_WEIGHTED = Condition(
  ('beta',), lambda config: config.beta > 0, 'add --config.beta=1.0'
)
_WARMS_UP = Condition(
  ('num_steps',),
  lambda config: config.kl_warmup_steps <= config.num_steps,
  'train for more steps',
  fault='never ends',
)

# When the fields have an effect that are not shared with other families.
EFFECTS: Effects = {
  'model.name': ALWAYS,
  'model.latent_size': (needs('model.name', 'conv', 'mlp'),),
  'model.base_features': _sized_by('base_features'),
  'model.hidden_sizes': _sized_by('hidden_sizes'),
  'model.groups': _sized_by('groups'),
  'model.prior': ALWAYS,
  'model.prior_components': (needs('model.prior', 'mixture', 'vampprior'),),
  'model.conditioning': ALWAYS,
  'model.activation': ALWAYS,
  'model.max_log_var': ALWAYS,
  'objective': ALWAYS,
  'num_importance_samples': ALWAYS,
  'kl': (_ELBO,),
  'beta': (_ELBO,),
  'kl_warmup_steps': (_ELBO, _WEIGHTED, _WARMS_UP),
  'free_bits_nats': (_ELBO, _WEIGHTED),
  'total_correlation_weight': (_ELBO,),
  'evaluation_samples': ALWAYS,
  **fields.EFFECTS,
  **optimisers.effects('optimizer'),
}


def _check_model(config: ConfigDict) -> None:
  """Checks that the networks can be built for the images."""
  require_one_of(config, 'model.name', MODELS)
  if MODELS[config.model.name].is_convolutional:
    least = images.MIN_DOUBLED_SIDE
    require(
      min(images.sides(config.dataset.image_size)) >= least,
      config,
      'dataset.image_size',
      f'model.name={config.model.name} needs at least {least} pixels a side',
    )
  if config.model.name == 'hierarchical':
    fault = groups.fault(config.model.groups, config.dataset.image_size)
    require(fault is None, config, 'model.groups', fault)
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
    'must be layer sizes from 1 to '
    f'{config_lib.MAX_FEATURES:,}, such as (200, 200)',
  )
  is_hierarchy = config.model.name == 'hierarchical'
  require_one_of(config, 'model.prior', PRIORS)
  require_one_of(config, 'model.conditioning', CONDITIONINGS)
  require(
    config.model.conditioning == 'none'
    or not (is_hierarchy or config.model.prior == 'vampprior'),
    config,
    'model.conditioning',
    "needs model.name 'conv' or 'mlp', and model.prior 'normal' or 'mixture'; "
    "use 'none'",
  )
  require(
    config.total_correlation_weight == 0
    or not (is_hierarchy or config.model.prior != 'normal'),
    config,
    'total_correlation_weight',
    "needs model.name 'conv' or 'mlp', and model.prior 'normal'; use 0.0",
  )
  require_at_least(config, 1, 'model.prior_components')
  require_at_most(config, MAX_COMPONENTS, 'model.prior_components')
  require_one_of(config, 'model.activation', ACTIVATIONS)
  require(
    0 < config.model.max_log_var <= 80,  # e^89 overflows float32
    config,
    'model.max_log_var',
    'must be above 0 and at most 80',
  )


def check(config: ConfigDict) -> None:
  """Checks every field, but not whether it has an effect, see EFFECTS.

  Raises:
    UserError: if a field is invalid; names the first one.
  """
  config_lib.check_fields(config, default())
  config_lib.check_base(config)
  require(
    config.dataset.name not in WORLDS,
    config,
    'dataset.name',
    'contains points; use a data set of images, such as digits',
  )
  _check_model(config)
  fields.check(config)
  require_one_of(config, 'objective', OBJECTIVES)
  require(
    config.model.name != 'hierarchical' or config.objective != 'dreg',
    config,
    'objective',
    "needs a posterior of one layer of latents; use 'elbo' or 'iwae'",
  )
  require_at_least(config, 1, 'num_importance_samples', 'evaluation_samples')
  require_at_most(
    config, MAX_DRAWS, 'num_importance_samples', 'evaluation_samples'
  )
  require_one_of(config, 'kl', KLS)
  require_at_least(config, 0, 'kl_warmup_steps')
  for name in ('beta', 'free_bits_nats', 'total_correlation_weight'):
    require(
      0 <= config[name] < math.inf,
      config,
      name,
      'must be at least 0 and finite',
    )
  require(
    config.kl == 'closed_form' or config.free_bits_nats == 0,
    config,
    'free_bits_nats',
    'needs kl=closed_form; free bits bias a noisy estimate',
  )
  optimisers.check(config, 'optimizer')


def has_fixed_steps(config: ConfigDict) -> bool:
  """Whether a schedule depends on `num_steps`, which then must not change."""
  return optimisers.is_scheduled(config.optimizer)


def read(workdir: epath.PathLike) -> ConfigDict:
  """Reads and checks the config of the run in a workdir.

  Raises:
    UserError: if the config is missing, unreadable or invalid.
  """
  return workdir_lib.read_config(workdir, default(), check)
