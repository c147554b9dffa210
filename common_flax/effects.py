"""Which fields of a config have an effect, given the other fields.

A table maps each field to the conditions under which it has an effect, or to
ALWAYS. A new run is refused if a field without an effect differs from its
default: whoever set it expects something of it. Each part of the config brings
its own table; that of the fields that every family shares, but for
`config.dataset` (see `common_flax.data.fields`), is SHARED.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from ml_collections import ConfigDict

from common_flax.config import flatten
from common_flax.config import require


class Condition(NamedTuple):
  """A condition under which a field has an effect.

  An error reads `config.FIELD=VALUE: FAULT with OTHER=VALUE; set it to DEFAULT,
  or CURE`.
  """

  decisive: tuple[str, ...]  # the fields that the condition depends on
  holds: Callable[[ConfigDict], bool]  # a function of the whole config
  cure: str = ''  # how to meet it; empty if nothing can
  neutral: tuple[Any, ...] = ()  # values that ask for nothing, as the default
  fault: str = 'has no effect'


# Field -> conditions that must all hold. The first that does not is named.
Effects = Mapping[str, Sequence[Condition]]
ALWAYS: Sequence[Condition] = ()


def needs(field: str, *values: Any, neutral: tuple[Any, ...] = ()) -> Condition:
  """The condition that `field` has one of the `values`.

  Args:
    field: name of the other field, such as 'dataset.name'.
    *values: at least one.
    neutral: see `Condition`.
  """
  known = ' or '.join(map(str, values))
  return Condition(
    (field,),
    lambda config: flatten(config)[field] in values,
    f'add --config.{field}={known}',
    neutral,
  )


_SKIPS = (needs('on_nan', 'skip'),)
_ROLLS_BACK = (needs('on_nan', 'rollback'),)
_SCORES = Condition(
  ('evaluate_every_steps',),
  lambda config: config.evaluate_every_steps > 0,
  'add --config.evaluate_every_steps=1000',
)
_USES_INCEPTION = Condition(
  ('evaluation_features', 'evaluation_inception_weights'),
  lambda config: (
    config.evaluation_features == 'inception'
    or (
      config.evaluation_features == 'auto'
      and config.evaluation_inception_weights is not None
    )
  ),
  'add --config.evaluation_features=inception',
)

SHARED: Effects = {
  'seed': ALWAYS,
  'num_steps': ALWAYS,
  'batch_size': ALWAYS,
  'steps_per_call': ALWAYS,
  'parallelism': ALWAYS,
  'compute_dtype': ALWAYS,
  'ema_decay': ALWAYS,
  'log_every_steps': ALWAYS,
  'sample_every_steps': ALWAYS,
  'checkpoint_every_steps': ALWAYS,
  'keep_checkpoints': ALWAYS,
  'on_nan': ALWAYS,
  'on_nan_max_skips': _SKIPS,
  'on_nan_max_rollbacks': _ROLLS_BACK,
  'on_save_error': ALWAYS,
  'trackers': ALWAYS,
  'evaluate_every_steps': ALWAYS,
  'evaluation_metrics': (_SCORES,),
  'evaluation_num_samples': (_SCORES,),
  'evaluation_features': (_SCORES,),
  'evaluation_inception_weights': (
    _SCORES,
    needs('evaluation_features', 'auto', 'inception'),
  ),
  'evaluation_resize': (_SCORES, _USES_INCEPTION),
}


def check(
  config: ConfigDict,
  effects: Effects,
  default: ConfigDict,
  stored: ConfigDict | None = None,
) -> None:
  """Refuses fields that were set but have no effect.

  Args:
    config: the run's config, whose values are valid.
    effects: the conditions; fields that it lacks always have an effect.
    default: the family's default config.
    stored: the config that the run began with, if it resumes. A field may keep
      its value, which an earlier version may have ignored.

  Raises:
    UserError: naming the first such field, in the order of `effects`.
  """
  given, defaults = flatten(config), flatten(default)
  before = defaults if stored is None else flatten(stored)
  for field, conditions in effects.items():
    if field not in given or given[field] in (defaults[field], before[field]):
      continue
    for condition in conditions:
      if given[field] not in condition.neutral:
        require(
          condition.holds(config),
          config,
          field,
          _complaint(condition, given, defaults[field]),
        )


def without_idle(
  config: ConfigDict,
  effects: Effects,
  default: ConfigDict,
  overridden: Collection[str],
  stored: ConfigDict | None = None,
) -> tuple[ConfigDict, list[str]]:
  """Sets fields of a recipe back that an override has made meaningless.

  `model.name=mlp` for a recipe of convolutions, say, leaves no meaning to the
  width that the recipe gives them. Whoever overrode the one need not know the
  other; fields that were overridden themselves are left to `check`.

  Args:
    config: a recipe's config with overrides.
    effects: the conditions.
    default: the family's default config.
    overridden: names of the fields that were overridden.
    stored: the config that the run began with, if it resumes; an earlier
      version may have kept such fields.

  Returns:
    The config, and what was done, a line for each field.
  """
  given, defaults = flatten(config), flatten(default)
  before = defaults if stored is None else flatten(stored)
  idle, lines = {}, []
  for field, conditions in effects.items():
    if field not in given or field in overridden:
      continue
    if given[field] in (defaults[field], before[field]):
      continue
    for condition in conditions:
      is_neutral = given[field] in condition.neutral
      causes = [name for name in condition.decisive if name in overridden]
      if causes and not is_neutral and not condition.holds(config):
        idle[field] = defaults[field]
        state = ', '.join(f'{name}={given[name]}' for name in causes)
        lines.append(
          f'config.{field}={given[field]} of the recipe {condition.fault} '
          f'with {state} and is left out.'
        )
        break
  if not idle:
    return config, lines
  settled = config.copy_and_resolve_references()
  with settled.unlocked():
    settled.update_from_flattened_dict(idle)
  return settled, lines


def _complaint(
  condition: Condition, given: Mapping[str, Any], default: Any
) -> str:
  state = ', '.join(f'{name}={given[name]}' for name in condition.decisive)
  cures = ['remove it' if default is None else f'set it to {default!r}']
  cures += [condition.cure] if condition.cure else []
  return f'{condition.fault} with {state}; {", or ".join(cures)}'
