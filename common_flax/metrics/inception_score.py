"""Inception score: confidence and diversity of a classifier's predictions.

exp E[KL(p(y|x) || p(y))], Salimans et al. (2016, arXiv:1606.03498).

Dimensions: N images, K classes.
"""

import itertools

import numpy as np
from scipy import special


def score(
  logits: np.ndarray, *, num_splits: int, seed: int
) -> tuple[float, float]:
  """Computes the inception score.

  Args:
    logits: [N, K]; InceptionV3's without biases, as in torch-fidelity.
    num_splits: number of nearly equal splits, each of which is scored alone.
    seed: of the shuffle before splitting; the shuffle and the splits are those
      of torch-fidelity.

  Returns:
    The mean over splits, from 1 to K, and the standard deviation over them.

  Raises:
    ValueError: if there are fewer images than splits.
  """
  if len(logits) < num_splits:
    raise ValueError(
      f'{len(logits)} images are too few for {num_splits} splits'
    )
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
