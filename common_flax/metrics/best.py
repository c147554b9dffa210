"""Which value of a metric is the best, and which metrics have one."""

from collections.abc import Mapping
import math

# What checkpoints are compared by if it is not called as the metric is.
_DECISIVE = {
  'classes': 'modes_covered',
  'likelihood': 'nll_nats',
  'modes': 'modes_covered',
  'nearest': 'nearest_train_ratio',
}
# Where neither more nor less is better.
_WITHOUT_BEST = frozenset(('kl_nats', 'mutual_information_nats'))
# Of all other metrics less is better.
_HIGHER_IS_BETTER = frozenset(
  (
    'inception_score',
    'precision',
    'recall',
    'density',
    'coverage',
    'nearest_train_ratio',
    # Of what families measure besides.
    'modes_covered',
    'high_quality_share',
    'label_agreement',
    'lowest_label_agreement',
    'elbo_nats',
    'reconstruction_nats',
    'active_units',
    'effective_samples',
  )
)


def decisive(metric: str) -> str:
  """The number that decides of those that a metric consists of."""
  return _DECISIVE.get(metric, metric)


def best_step(values: Mapping[int, float | None], name: str) -> int | None:
  """The step of the best value of a metric, the first of equals.

  Args:
    values: by step; what is not known or not finite is never the best.
    name: of the number.

  Returns:
    None if there is none, also as it is of no metric that has a best value.
  """
  if name in _WITHOUT_BEST:
    return None
  known = {
    k: v for k, v in values.items() if v is not None and math.isfinite(v)
  }
  sign = -1 if name in _HIGHER_IS_BETTER else 1
  return min(known, key=lambda step: (sign * known[step], step), default=None)
