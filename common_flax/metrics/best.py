"""Which value of a metric is the best."""

from collections.abc import Mapping
import math

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


def best_step(values: Mapping[int, float | None], name: str) -> int | None:
  """The step of the best value of a metric, the first of equals.

  Args:
    values: by step; what is not known or not finite is never the best.
    name: of the metric.
  """
  known = {
    k: v for k, v in values.items() if v is not None and math.isfinite(v)
  }
  sign = -1 if name in _HIGHER_IS_BETTER else 1
  return min(known, key=lambda step: (sign * known[step], step), default=None)
