"""A bound on -log Pr(x), from codes and priors over codes.

The encoder gives every image one sequence of codes z, and Pr(x) is a sum over
all sequences, so -log Pr(x) <= -log Pr(x|z) - log Pr(z). The first term is the
distortion, the second the rate: the nats that a prior needs to tell the codes.

Dimensions: N images, S and T sides of the grid of cells, L codes of a cell, K
codes there are.
"""

from collections.abc import Iterator
import math
from typing import Any

import jax
import numpy as np

from common_flax import prng
from common_flax.annealing.weights import standard_error
from common_flax.data.source import Source
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.likelihoods import bits_per_dim
from common_flax.progress import track
from vq_flax import generation
from vq_flax import inference
from vq_flax.prior.trained import TrainedPrior
from vq_flax.trained import TrainedVQ

NUM_COUNTED = 10_000  # training images that the frequencies of codes are from


def encoded(
  trained: TrainedVQ,
  source: Source,
  root: jax.Array,
  chosen: np.ndarray,
  title: str,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields distortions [n] in nats and codes [n, S, T, L] of images.

  Args:
    trained: the model.
    source: of the images.
    root: of the keys of random observations, not consumed.
    chosen: their numbers in the source, int32 [N].
    title: of the progress bar.
  """
  num = len(chosen)
  for places in track(chunks_of_numbers(num), -(-num // CHUNK), title):
    numbers = chosen[np.minimum(places, num - 1)]
    images = np.stack([source[int(i)]['image'] for i in numbers])
    x = generation.observe_by_number(trained.vq, root, images, numbers)
    found = generation.distortion(trained.vq, trained.params, x)
    yield tuple(np.asarray(y)[: num - places[0]] for y in found)


def log_frequencies(counts: np.ndarray) -> np.ndarray:
  """Log-probabilities of codes by how often they occurred.

  One is added to every count, so that no code has probability 0.

  Args:
    counts: [L, K].

  Returns:
    Float64 [L, K].
  """
  counts = counts.astype(np.float64) + 1
  return np.log(counts) - np.log(counts.sum(axis=1, keepdims=True))


def rate(log_probs: np.ndarray, codes: np.ndarray) -> np.ndarray:
  """-log Pr(z) in nats, [N], of independent codes z [N, S, T, L].

  Args:
    log_probs: [L, K].
    codes: the codes.
  """
  levels = np.arange(codes.shape[-1])
  return -log_probs[levels, codes].reshape(len(codes), -1).sum(axis=1)


def _padded(codes: np.ndarray) -> np.ndarray:
  """Codes of a whole chunk, for which the prior is compiled once."""
  return codes[np.minimum(np.arange(CHUNK), len(codes) - 1)]


def measure(
  trained: TrainedVQ,
  source: Source,
  training_source: Source,
  seed: int,
  prior: TrainedPrior | None = None,
) -> dict[str, Any]:
  """Bounds the likelihood of a source under a trained model.

  Args:
    trained: the model.
    source: of the images.
    training_source: the training images, from at most NUM_COUNTED of which
      the frequencies of codes are counted.
    seed: of binary images.
    prior: over the model's codes; None if none has been trained.

  Returns:
    Means over images in nats: `distortion_nats`; the rates `rate_uniform_nats`
    and `rate_unigram_nats`, of a prior under which all codes are equally
    likely, and of one that knows the frequency of each but draws them
    independently, and `rate_nats` of the given prior; with these the bounds on
    -log Pr(x), `bound_uniform_nats`, `bound_unigram_nats` and `bound_nats`. The
    last is that of the given prior, or of frequencies if there is none, and has
    its standard error over images and its bits per dimension.
    Over all images: `codes_used`, the share of codes that occur, and
    `code_perplexity`, both of the worst codebook.
  """
  root = prng.root_key(seed)
  vq = trained.vq
  log_probs = _frequencies(
    trained, training_source, prng.stream(root, 'observe', 1)
  )
  distortions, unigram, learned, used = _of_images(
    trained, source, prng.stream(root, 'observe'), log_probs, prior
  )
  uniform = vq.num_codes * math.log(vq.quantiser.num_codes)
  best = unigram if learned is None else learned
  bounds = distortions + best
  distortion, bound = float(distortions.mean()), float(bounds.mean())
  return {
    'bound_nats': bound,
    'bound_standard_error_nats': standard_error(bounds),
    'bits_per_dim': bits_per_dim(
      bound, math.prod(vq.image_shape), vq.likelihood
    ),
    'distortion_nats': distortion,
    **({} if learned is None else {'rate_nats': float(learned.mean())}),
    'rate_unigram_nats': float(unigram.mean()),
    'rate_uniform_nats': uniform,
    'bound_unigram_nats': distortion + float(unigram.mean()),
    'bound_uniform_nats': distortion + uniform,
    'codes_used': float((used > 0).mean(axis=1).min()),
    'code_perplexity': float(np.exp(_entropies(used)).min()),
  }


def _of_images(
  trained: TrainedVQ,
  source: Source,
  root: jax.Array,
  log_probs: np.ndarray,
  prior: TrainedPrior | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
  """Distortions, rates by frequency and by the prior [N], and counts [L, K]."""
  distortions, rates, learned, used = [], [], [], 0
  numbers = np.arange(len(source), dtype=np.int32)
  for distortion, codes in encoded(
    trained, source, root, numbers, 'Bounding Pr(x)'
  ):
    distortions.append(distortion.astype(np.float64))
    rates.append(rate(log_probs, codes))
    if prior is not None:
      learned.append(-prior.log_prob(_padded(codes))[: len(codes)])
    used += _counts(trained, codes)
  found = (
    np.concatenate(each) if each else None
    for each in (distortions, rates, learned)
  )
  return *found, used


def _counts(trained: TrainedVQ, codes: np.ndarray) -> np.ndarray:
  """How often each code occurs, int64 [L, K]."""
  counts = inference.counts(codes, trained.vq.quantiser.num_codes)
  return np.asarray(counts, np.int64)


def _frequencies(
  trained: TrainedVQ, source: Source, root: jax.Array
) -> np.ndarray:
  """The log-probabilities [L, K] of codes in training images."""
  numbers = generation.spread(len(source), NUM_COUNTED)
  rows = encoded(trained, source, root, numbers, 'Counting codes')
  return log_frequencies(sum(_counts(trained, codes) for _, codes in rows))


def _entropies(counts: np.ndarray) -> np.ndarray:
  """The entropies of codes that are counted [L, K], in nats."""
  shares = counts / counts.sum(axis=1, keepdims=True)
  return -np.sum(shares * np.log(np.maximum(shares, 1e-300)), axis=1)
