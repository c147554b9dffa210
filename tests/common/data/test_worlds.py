"""Toy worlds as PacGAN defines them, and mode coverage by hand."""

import math

import numpy as np
import pytest

from common_flax import data
from common_flax.data.worlds import World
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from gan_flax import mode_coverage as modes


@pytest.mark.parametrize(
  ('name', 'num_modes', 'deviation'), [('ring', 8, 0.01), ('grid', 25, 0.05)]
)
def test_a_world_is_a_mixture_of_equal_gaussians(name, num_modes, deviation):
  source = data.load_source(name, 'train', 32)
  assert len(source) == 100_000
  assert source.example_shape == (2,)
  assert source[0]['point'].dtype == np.float32
  centres = np.asarray(WORLDS[name].centres)
  counts = np.bincount(source.labels, minlength=num_modes)
  np.testing.assert_allclose(counts, 100_000 / num_modes, rtol=0.07)
  offsets = source.examples - centres[source.labels]
  for k in range(num_modes):
    here = offsets[source.labels == k]
    np.testing.assert_allclose(here.mean(axis=0), 0, atol=0.1 * deviation)
    np.testing.assert_allclose(here.std(axis=0), deviation, rtol=0.06)


def test_where_the_modes_are():
  ring = np.asarray(WORLDS['ring'].centres)
  np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 1)
  np.testing.assert_allclose(ring[2], [0, 1], atol=1e-15)
  places = (-4, -2, 0, 2, 4)
  assert sorted(WORLDS['grid'].centres) == [
    (x, y) for x in places for y in places
  ]


def test_splits_are_fixed_and_differ():
  train, again, test = (
    data.load_source('grid', split, 32) for split in ('train', 'train', 'test')
  )
  np.testing.assert_array_equal(train.examples, again.examples)
  assert len(test) == 10_000
  assert not np.array_equal(train.examples[:10], test.examples[:10])
  # Written down once: a change here would change every resumed run.
  np.testing.assert_array_equal(train.labels[:6], [12, 15, 21, 0, 3, 3])
  with pytest.raises(UserError, match='train and test'):
    data.load_source('grid', 'validation', 32)


def test_coverage_by_hand():
  """Of eight modes one has three samples, one has one, one a near miss."""
  points = [
    (1.0, 0.0),
    (1.0, 0.0299),
    (0.98, 0.0),
    (-1.0, 0.0),
    (0.0, 1.0301),  # just beyond three deviations
    (0.0, 0.0),
  ]
  found = modes.coverage(np.array(points), WORLDS['ring'])
  assert found.modes_covered == 2
  assert found.high_quality_share == pytest.approx(4 / 6)
  entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
  assert found.mode_kl_nats == pytest.approx(math.log(8) - entropy)


@pytest.mark.parametrize(
  ('distance', 'share'), [(3.0, 0.0), (np.nextafter(3.0, 0), 1.0)]
)
def test_the_edge_of_a_mode_is_outside(distance, share):
  """Three deviations, to the last bit."""
  found = modes.coverage(np.array([(0.0, distance)]), World(((0.0, 0.0),), 1.0))
  assert found.high_quality_share == share


def test_without_a_good_sample_there_is_no_histogram():
  found = modes.coverage(np.zeros((3, 2)), WORLDS['ring'])
  assert found[:2] == (0, 0)
  assert math.isnan(found.mode_kl_nats)


@pytest.mark.parametrize('name', WORLDS)
def test_what_perfect_samples_score(name):
  """As published: 98.89 %, and 0.0014 or 0.0048 nats of 2,500 samples."""
  world = WORLDS[name]
  points = data.load_source(name, 'train', 32).examples
  found = [
    modes.coverage(points[i : i + 2500], world) for i in range(0, 100_000, 2500)
  ]
  expected = modes.perfect_coverage(world, 2500)
  np.testing.assert_allclose(np.mean(found, axis=0), expected, rtol=0.2)
  share = np.mean([f.high_quality_share for f in found])
  assert share == pytest.approx(0.98889, abs=0.001)
  assert expected.high_quality_share == pytest.approx(0.98889, abs=1e-5)


def test_coverage_of_classes_by_hand():
  """Of four classes one is seen three times and one once."""
  found = modes.class_coverage(np.array([2, 0, 2, 2], np.int32), 4)
  assert found['modes_covered'] == 2
  entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
  assert found['mode_kl_nats'] == pytest.approx(math.log(4) - entropy)


@pytest.mark.parametrize(
  ('labels', 'covered', 'divergence'),
  [
    (np.arange(1000), 1000, 0),
    (np.zeros(10, np.int32), 1, math.log(1000)),
    (np.full(10, 999), 1, math.log(1000)),
  ],
  ids=['all alike', 'the first alone', 'the last alone'],
)
def test_the_extremes_of_a_coverage_of_classes(labels, covered, divergence):
  found = modes.class_coverage(labels, 1000)
  assert found['modes_covered'] == covered
  assert found['mode_kl_nats'] == pytest.approx(divergence, abs=1e-12)


def test_of_no_samples_no_class_is_covered():
  found = modes.class_coverage(np.empty(0, np.int32), 10)
  assert found['modes_covered'] == 0
  assert math.isnan(found['mode_kl_nats'])
