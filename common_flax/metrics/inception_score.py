"""Inception score: how sure a classifier is of samples, how varied they are.

Salimans et al. (2016, arXiv:1606.03498): exp E KL(p(y|x) || p(y)).

Dimensions: N images, K classes.
"""

import itertools

import numpy as np
from scipy import special


def score(
  logits: np.ndarray, *, num_splits: int, seed: int
) -> tuple[float, float]:
  """The mean over splits of the images, and the standard deviation over them.

  Args:
    logits: [N, K]; InceptionV3's are without biases, as torch-fidelity's.
    num_splits: parts of nearly the same size, each scored by itself.
    seed: of the order before the images are split; the order and the parts are
      torch-fidelity's.

  Returns:
    Scores from 1 to K.

  Raises:
    ValueError: if there are fewer images than splits.
  """
  if len(logits) < num_splits:
    raise ValueError(f'{len(logits)} images make no {num_splits} splits')
  num = len(logits)
  shuffled = logits[np.random.RandomState(seed).permutation(num)]
  edges = [i * num // num_splits for i in range(num_splits + 1)]
  scores = [_score(shuffled[a:b]) for a, b in itertools.pairwise(edges)]
  return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
  log_p = special.log_softmax(np.asarray(logits, np.float64), axis=1)
  log_marginal = special.logsumexp(log_p, axis=0) - np.log(len(log_p))
  divergences = np.sum(np.exp(log_p) * (log_p - log_marginal), axis=1)
  return float(np.exp(divergences.mean()))
