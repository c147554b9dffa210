"""What the log weights of annealed chains say of log Pr(x).

Everything is float64 on the host.

Dimensions: N examples, C chains of each.
"""

from typing import NamedTuple

import numpy as np


class Estimates(NamedTuple):
  """Estimates of log Pr(x), float64 [N]."""

  log_prob: np.ndarray  # log of the mean weight, nats
  standard_error: np.ndarray  # of log_prob, nats; NaN for a single chain
  effective_samples: np.ndarray  # effective sample size, 1 to C


def estimates(log_weights: np.ndarray) -> Estimates:
  """Estimates log Pr(x) from the weights of forward chains.

  The mean weight has the expectation Pr(x), so its logarithm is too low on
  average: a stochastic lower bound (Grosse et al. 2015, section 2).

  Args:
    log_weights: float64 [N, C].
  """
  num_chains = log_weights.shape[1]
  largest = log_weights.max(axis=1, keepdims=True)
  weights = np.exp(log_weights - largest)
  mean = weights.mean(axis=1)
  share = (weights**2).sum(axis=1) / weights.sum(axis=1) ** 2
  # The error of a single chain is unknown.
  error = np.full(len(weights), np.nan)
  if num_chains > 1:
    error = weights.std(axis=1, ddof=1) / np.sqrt(num_chains) / mean
  return Estimates(largest[:, 0] + np.log(mean), error, 1 / share)


def upper_bound(log_weights: np.ndarray) -> np.ndarray:
  """A stochastic upper bound on log Pr(x) from reverse chains.

  The inverse weight of a chain that starts at a draw of the posterior has the
  expectation 1 / Pr(x), so that this is too high on average. From any other
  start it bounds nothing.

  Args:
    log_weights: float64 [N, C], from a reverse path.

  Returns:
    float64 [N] in nats.
  """
  return -estimates(-log_weights).log_prob


def standard_error(values: np.ndarray) -> float:
  """The standard error of the mean of values [N]; NaN for a single one."""
  if len(values) < 2:
    return float('nan')
  return float(values.std(ddof=1) / np.sqrt(len(values)))
