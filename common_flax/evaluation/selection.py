"""Selects the best checkpoint by a metric."""

from collections.abc import Mapping
import math

# The number to compare by, where its name is not the metric's.
_CRITERIA = {
  'ais': 'ais_nll_nats',
  'bound': 'bound_nats',
  'classes': 'modes_covered',
  'likelihood': 'nll_nats',
  'modes': 'modes_covered',
  'nearest': 'nearest_train_ratio',
}
# Neither higher nor lower is better.
_WITHOUT_BEST = frozenset(
  (
    'ais_acceptance',
    'ais_variance',
    'kl_nats',
    'mutual_information_nats',
    'distortion_nats',
    'rate_nats',
    'rate_unigram_nats',
    'rate_uniform_nats',
  )
)
# Lower is better for all other metrics.
_HIGHER_IS_BETTER = frozenset(
  (
    'inception_score',
    'precision',
    'recall',
    'density',
    'coverage',
    'nearest_train_ratio',
    # Metrics that the model families add.
    'modes_covered',
    'high_quality_share',
    'label_agreement',
    'lowest_label_agreement',
    'elbo_nats',
    'reconstruction_nats',
    'active_units',
    'codes_used',
    'code_perplexity',
    'effective_samples',
    'lowest_effective_samples',
    'ais_effective_samples',
    'ais_lowest_effective_samples',
    'bdmc_effective_samples',
  )
)


def criterion(metric: str) -> str:
  """The name of the number that compares checkpoints by this metric."""
  return _CRITERIA.get(metric, metric)


def best_step(values: Mapping[int, float | None], name: str) -> int | None:
  """The step with the best value, the earliest in a tie.

  Args:
    values: by step; unknown (None) and non-finite values are never best.
    name: of the number.

  Returns:
    None if no value is finite, or if the number has no better direction.
  """
  if name in _WITHOUT_BEST:
    return None
  finite = {
    k: v for k, v in values.items() if v is not None and math.isfinite(v)
  }
  sign = -1 if name in _HIGHER_IS_BETTER else 1
  return min(finite, key=lambda step: (sign * finite[step], step), default=None)
