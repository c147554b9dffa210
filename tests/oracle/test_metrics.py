"""Metrics on features against the reference implementations."""

import numpy as np
import pytest
import torch

from common_flax.metrics import frechet
from common_flax.metrics import inception_score
from common_flax.metrics import kernel
from common_flax.metrics import neighbours

prdc = pytest.importorskip('prdc')
fid_score = pytest.importorskip('pytorch_fid.fid_score')
metric_fid = pytest.importorskip('torch_fidelity.metric_fid')
metric_isc = pytest.importorskip('torch_fidelity.metric_isc')
metric_kid = pytest.importorskip('torch_fidelity.metric_kid')
metric_prc = pytest.importorskip('torch_fidelity.metric_prc')

# Features of generated and of real images: numbers N, M and dimensions F.
SIZES = [(400, 500, 16), (300, 200, 64), (40, 60, 256)]


def features(num, size, seed):
  """Like those of a network: at least 0, correlated, of unlike scales."""
  random = np.random.default_rng(seed)
  mix = np.random.default_rng(0).normal(size=(size, size)) / np.sqrt(size)
  scales = np.logspace(-2, 0.5, size)
  values = random.normal(0.1 * seed, 1, (num, size)) @ mix * scales
  return np.maximum(values, 0).astype(np.float32)


def sets(size):
  num, other, dimensions = size
  return features(num, dimensions, 1), features(other, dimensions, 2)


@pytest.mark.parametrize('size', SIZES)
def test_frechet_distance(size):
  generated, real = (x.astype(np.float64) for x in sets(size))
  a, b = frechet.moments(generated), frechet.moments(real)
  found = frechet.distance(a, b)
  statistics = [
    metric_fid.fid_features_to_statistics(torch.tensor(x))
    for x in (generated, real)
  ]
  expected = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
  assert found == pytest.approx(expected[metric_fid.KEY_METRIC_FID], rel=1e-6)
  if len(real) > real.shape[1]:  # its root of singular matrices is inexact
    expected = fid_score.calculate_frechet_distance(
      a.mean, a.covariance, b.mean, b.covariance
    )
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('size', SIZES)
def test_kernel_distance(size):
  generated, real = (x.astype(np.float64) for x in sets(size))
  found = kernel.distance(
    generated, real, num_subsets=7, subset_size=30, seed=2020
  )
  expected = metric_kid.kid_features_to_metric(
    torch.tensor(generated),
    torch.tensor(real),
    kid_subsets=7,
    kid_subset_size=30,
    rng_seed=2020,
    verbose=False,
  )
  assert found == pytest.approx(tuple(expected.values()), rel=1e-6)


@pytest.mark.parametrize('num', [1000, 997])
def test_inception_score(num):
  logits = 3 * np.random.default_rng(0).normal(size=(num, 50))
  found = inception_score.score(
    logits.astype(np.float32), num_splits=10, seed=2020
  )
  expected = metric_isc.isc_features_to_metric(
    torch.tensor(logits, dtype=torch.float32)
  )
  assert found == pytest.approx(tuple(expected.values()), rel=1e-6)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('k', [3, 5])
def test_neighbours(size, k):
  generated, real = sets(size)
  found = neighbours.manifold_metrics(real, generated, num_neighbours=k)
  expected = prdc.compute_prdc(
    real.astype(np.float64), generated.astype(np.float64), k
  )
  assert found._asdict() == pytest.approx(expected, rel=1e-6)
  precision, recall = metric_prc.calculate_precision_recall_full(
    torch.tensor(generated, dtype=torch.float64),
    torch.tensor(real, dtype=torch.float64),
    k,
  )
  assert (found.precision, found.recall) == pytest.approx(
    (precision, recall), rel=1e-6
  )


def test_what_lies_on_an_edge_lies_outside_as_in_prdc():
  """There torch-fidelity counts it in, as the paper of 2019 does."""
  real = np.array([[0.0], [1.0], [2.0]])
  generated = np.array([[3.0], [4.0], [5.0]])
  found = neighbours.manifold_metrics(real, generated, num_neighbours=1)
  expected = prdc.compute_prdc(real, generated, 1)
  assert found._asdict() == expected
  assert found.precision == found.recall == 0
  precision, recall = metric_prc.calculate_precision_recall_full(
    torch.tensor(generated), torch.tensor(real), 1
  )
  assert (precision, recall) == pytest.approx((1 / 3, 1 / 3))
