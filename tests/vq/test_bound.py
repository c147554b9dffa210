"""The bound against all sixteen codes of a toy."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from scipy import special
from small_vq import configured
from small_vq import initial

from common_flax import data
from vq_flax import generation
from vq_flax import inference
from vq_flax.metrics import bound
from vq_flax.trained import TrainedVQ
from vq_flax.vq import create_vq

SHAPE = (2, 2, 1)
NUM_CODES = 16


@pytest.fixture(scope='module')
def trained():
  """One cell of sixteen codes, with spread entries."""
  config = configured(model__num_codes=NUM_CODES, dataset__binarise='threshold')
  vq = create_vq(config, SHAPE)
  params = dict(initial(vq).params)
  random = np.random.default_rng(0)
  params['codebooks'] = random.normal(size=params['codebooks'].shape).astype(
    np.float32
  )
  params['encoder'] = jax.tree.map(
    lambda p: p + random.normal(0, 0.5, p.shape).astype(np.float32),
    params['encoder'],
  )
  return TrainedVQ(vq, params, config, 0)


@pytest.fixture(scope='module')
def source():
  """All sixteen binary images, some more often."""
  pixels = (np.arange(16)[:, None] >> np.arange(4)) % 2
  images = (255 * pixels).astype(np.uint8).reshape(16, *SHAPE)
  return data.from_arrays(np.concatenate([images, images[:5]]))


def enumerated(trained, source):
  """-log Pr(x|z) of every image for every code, [N, 16], in float64."""
  codes = np.arange(NUM_CODES, dtype=np.int32).reshape(-1, 1, 1, 1)
  vq, params = trained.vq, trained.params
  vectors = vq.quantiser.vectors(params['codebooks'], codes)
  logits = np.asarray(inference.decode(vq, params, vectors), np.float64)[..., 0]
  images = np.stack([source[i]['image'] for i in range(len(source))]) / 255
  log_p = special.log_expit(np.where(images[:, None] == 1, logits, -logits))
  return -log_p.sum(axis=(2, 3, 4))


def test_the_bound_is_above_the_sum_over_all_codes(trained, source):
  found = bound.measure(trained, source, source, 0)
  nats = enumerated(trained, source)
  x = np.stack([source[i]['image'] for i in range(len(source))]) / 255
  codes = generation.encode(trained.vq, trained.params, x.astype(np.float32))
  codes = np.asarray(codes).ravel()
  counts = np.bincount(codes, minlength=NUM_CODES) + 1
  log_prior = np.log(counts / counts.sum())
  distortion = nats[np.arange(len(codes)), codes]
  assert found['distortion_nats'] == pytest.approx(distortion.mean(), abs=1e-5)
  assert found['rate_unigram_nats'] == pytest.approx(
    -log_prior[codes].mean(), abs=1e-5
  )
  assert found['rate_uniform_nats'] == pytest.approx(math.log(16))
  assert found['bound_nats'] == pytest.approx(
    found['distortion_nats'] + found['rate_unigram_nats']
  )
  exact = -special.logsumexp(log_prior - nats, axis=1)
  assert found['bound_nats'] > exact.mean()
  assert (distortion - log_prior[codes] >= exact).all()
  uniform = -special.logsumexp(-math.log(16) - nats, axis=1)
  assert found['bound_uniform_nats'] >= uniform.mean()
  assert found['bits_per_dim'] == pytest.approx(
    found['bound_nats'] / (4 * math.log(2))
  )


def test_codes_in_use_are_those_that_occur(trained, source):
  found = bound.measure(trained, source, source, 0)
  x = np.stack([source[i]['image'] for i in range(len(source))]) / 255
  codes = np.asarray(
    generation.encode(trained.vq, trained.params, x.astype(np.float32))
  ).ravel()
  shares = np.bincount(codes) / len(codes)
  shares = shares[shares > 0]
  assert 1 < len(shares) < NUM_CODES
  assert found['codes_used'] == len(shares) / NUM_CODES
  assert found['code_perplexity'] == pytest.approx(
    np.exp(-np.sum(shares * np.log(shares)))
  )


def test_frequencies_that_were_never_seen_are_not_0():
  log_probs = bound.log_frequencies(np.array([[3, 0, 1], [0, 0, 0]]))
  np.testing.assert_allclose(np.exp(log_probs[0]), [4 / 7, 1 / 7, 2 / 7])
  np.testing.assert_allclose(np.exp(log_probs[1]), np.full(3, 1 / 3))


def test_the_rate_takes_each_place_s_own_frequencies():
  log_probs = np.log([[0.5, 0.5], [0.9, 0.1]])
  codes = np.array([[[[0, 1], [1, 0]]]])  # [1, 1, 2, 2]
  expected = -2 * math.log(0.5) - math.log(0.1) - math.log(0.9)
  np.testing.assert_allclose(bound.rate(log_probs, codes), [expected])


def test_a_density_s_bits_count_the_width_of_a_byte(trained):
  config = configured(dataset__binarise='none', likelihood='gaussian')
  vq = create_vq(config, SHAPE)
  other = dataclasses.replace(
    trained, vq=vq, params=initial(vq).params, config=config
  )
  images = np.zeros((3, *SHAPE), np.uint8)
  source = data.from_arrays(images)
  found = bound.measure(other, source, source, 0)
  assert found['bits_per_dim'] == pytest.approx(
    found['bound_nats'] / (4 * math.log(2)) + 8
  )
