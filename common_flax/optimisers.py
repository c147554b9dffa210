"""Adam from a config, and the moving average of parameters."""

from collections.abc import Callable
import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import config_dict
from ml_collections import ConfigDict
import optax

from common_flax import effects as effects_lib
from common_flax.config import require
from common_flax.config import require_one_of
from common_flax.effects import ALWAYS
from common_flax.effects import Condition
from common_flax.effects import Effects
from common_flax.effects import needs

SCHEDULES = ('constant', 'cosine', 'linear')  # all but the first one fall


def default(learning_rate: float, b1: float, b2: float) -> ConfigDict:
  """The config fields of an optimiser."""
  config = ConfigDict()
  config.learning_rate = learning_rate
  config.b1 = b1
  config.b2 = b2
  # b2 moves along a cosine to this value at num_steps; None keeps it.
  config.final_b2 = config_dict.placeholder(float)
  config.schedule = 'constant'  # or 'linear', 'cosine': falling to num_steps
  config.final_share = 0.0  # of the learning rate that a schedule ends with
  config.max_grad_norm = config_dict.placeholder(float)  # None: no limit
  # Updates of a larger gradient are skipped; None for never.
  config.skip_grad_norm = config_dict.placeholder(float)
  config.skip_at_most = 10  # in a row; the next update is made, whatever it is
  return config


def _skips(name: str) -> Condition:
  """The condition that large updates are skipped."""
  return Condition(
    (f'{name}.skip_grad_norm',),
    lambda config: config[name].skip_grad_norm is not None,
    f'add --config.{name}.skip_grad_norm=400.0',
  )


def effects(name: str) -> Effects:
  """When the fields of the optimiser `config[name]` have an effect."""
  falls = needs(f'{name}.schedule', *SCHEDULES[1:])
  return {
    f'{name}.learning_rate': ALWAYS,
    f'{name}.b1': ALWAYS,
    f'{name}.b2': ALWAYS,
    f'{name}.final_b2': ALWAYS,
    f'{name}.schedule': ALWAYS,
    f'{name}.final_share': (falls,),
    f'{name}.max_grad_norm': ALWAYS,
    f'{name}.skip_grad_norm': ALWAYS,
    f'{name}.skip_at_most': (_skips(name),),
  }


def check(config: ConfigDict, name: str) -> None:
  """Checks the fields of the optimiser `config[name]`.

  Raises:
    UserError: naming the first wrong field.
  """
  values = config[name]
  require_one_of(config, f'{name}.schedule', SCHEDULES)
  require(
    0 < values.learning_rate < math.inf,
    config,
    f'{name}.learning_rate',
    'must be above 0 and finite',
  )
  require(
    0 <= values.final_share <= 1,
    config,
    f'{name}.final_share',
    'must be from 0 to 1',
  )
  for field in ('b1', 'b2'):
    require(
      0 <= values[field] < 1,
      config,
      f'{name}.{field}',
      'must be at least 0 and below 1',
    )
  require(
    values.final_b2 is None or 0 <= values.final_b2 < 1,
    config,
    f'{name}.final_b2',
    'must be at least 0 and below 1; leave it unset for a constant b2',
  )
  require(
    values.max_grad_norm is None or values.max_grad_norm > 0,
    config,
    f'{name}.max_grad_norm',
    'must be above 0; leave it unset for no limit',
  )
  require(
    values.skip_grad_norm is None or values.skip_grad_norm > 0,
    config,
    f'{name}.skip_grad_norm',
    'must be above 0; leave it unset to skip nothing',
  )
  require(
    values.skip_at_most >= 1,
    config,
    f'{name}.skip_at_most',
    'must be at least 1',
  )
  defaults = ConfigDict({name: default(learning_rate=0.0, b1=0.0, b2=0.0)})
  effects_lib.check(config, effects(name), defaults)


def is_scheduled(config: ConfigDict) -> bool:
  """Whether the fields of `default` depend on the number of steps."""
  return config.schedule != 'constant' or config.final_b2 is not None


def create(
  config: ConfigDict, num_updates: int
) -> optax.GradientTransformation:
  """Adam with schedules and optional gradient clipping.

  Args:
    config: the fields of `default`.
    num_updates: number of updates after which a schedule has fallen.
  """
  schedules: dict[str, Callable[[], optax.Schedule]] = {
    'constant': lambda: optax.constant_schedule(config.learning_rate),
    'linear': lambda: optax.linear_schedule(
      config.learning_rate,
      config.final_share * config.learning_rate,
      num_updates,
    ),
    'cosine': lambda: optax.cosine_decay_schedule(
      config.learning_rate, num_updates, alpha=config.final_share
    ),
  }
  rate = schedules[config.schedule]()
  if config.final_b2 is None:
    adam = optax.adam(rate, b1=config.b1, b2=config.b2)
  else:
    change = optax.cosine_decay_schedule(
      config.b2 - config.final_b2, num_updates
    )
    create_adam = optax.inject_hyperparams(
      optax.adam, static_args=('b1', 'eps', 'eps_root')
    )
    adam = create_adam(
      rate, b1=config.b1, b2=lambda count: config.final_b2 + change(count)
    )
  tx = adam
  if config.max_grad_norm is not None:
    tx = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), tx)
  if config.skip_grad_norm is not None:
    tx = skipping(tx, config.skip_grad_norm, config.skip_at_most)
  return tx


class SkippingState(NamedTuple):
  """The state of `skipping`."""

  num_skipped: jax.Array  # int32 [], updates skipped in a row
  inner: optax.OptState


def skipping(
  tx: optax.GradientTransformation, max_norm: float, at_most: int
) -> optax.GradientTransformation:
  """Skips the updates of large gradients (Child 2021, arXiv:2011.10650).

  A skipped update is 0 and leaves the state of `tx` as it is. If gradients stay
  large, a rule without a limit would skip all updates from then on; here every
  update after `at_most` skips in a row is made. Gradients that are not finite
  are not skipped, so that whoever watches for them sees them.

  Args:
    tx: makes the updates.
    max_norm: the largest norm of a gradient that is not skipped.
    at_most: number of updates in a row that may be skipped.
  """

  def init(params: Any) -> SkippingState:
    return SkippingState(jnp.zeros((), jnp.int32), tx.init(params))

  def update(
    gradients: Any, state: SkippingState, params: Any = None
  ) -> tuple[Any, SkippingState]:
    norm = optax.tree.norm(gradients)
    is_large = jnp.isfinite(norm) & (norm > max_norm)
    skip = is_large & (state.num_skipped < at_most)
    updates, inner = tx.update(gradients, state.inner, params)
    updates, inner = jax.tree.map(
      lambda old, new: jnp.where(skip, old, new),
      (jax.tree.map(jnp.zeros_like, updates), state.inner),
      (updates, inner),
    )
    return updates, SkippingState(
      jnp.where(skip, state.num_skipped + 1, 0), inner
    )

  return optax.GradientTransformation(init, update)


def moving_average(
  average: Any,
  params: Any,
  decay: float,
  step: jax.Array,
  num_steps: int | None = None,
) -> Any:
  """Updates the exponential moving average of parameters.

  The decay is min(decay, (1 + step) / (10 + step)), so that the average forgets
  the initial parameters soon. Given `num_steps`, the half-life grows from 0
  along a cosine until then, as R3GAN's does (Huang et al. 2024,
  arXiv:2501.05441). Parameters at rest keep their average exactly, which
  rounding in `optax.incremental_update` would not.

  Args:
    average: pytree, the average so far.
    params: pytree, the newest parameters.
    decay: decay after the warm-up, in [0, 1).
    step: int32 [], number of earlier steps.
    num_steps: number of steps over which the half-life grows, or None.
  """
  if num_steps is None:
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
  else:
    done = jnp.minimum((1 + step) / num_steps, 1)
    share = 0.5 * (1 - jnp.cos(jnp.pi * done))  # of the half-life
    decay = decay ** (1 / share)
  return jax.tree.map(
    lambda a, param: a + (1 - decay).astype(param.dtype) * (param - a),
    average,
    params,
  )
