"""Scores of sets of images, and the extraction of their features."""

import numpy as np
import pytest

from common_flax.errors import UserError
from common_flax.evaluation import protocol as protocol_lib
from common_flax.evaluation.protocol import ImageFeatures
from common_flax.evaluation.protocol import NearestNeighbours
from common_flax.evaluation.protocol import Protocol
from common_flax.metrics import features as features_lib
from common_flax.metrics import random_network
from common_flax.metrics.chunks import in_chunks

ALL = Protocol(tuple(protocol_lib.METRICS), 3)
EXTRACTOR = features_lib.random_extractor()


def images(num, seed=0, mean=128):
  random = np.random.default_rng(seed)
  pixels = random.normal(mean, 30, (num, 8, 8, 1))
  return np.clip(pixels, 0, 255).astype(np.uint8)


def extracted(num, seed=0, mean=128):
  return protocol_lib.extract(EXTRACTOR, images(num, seed, mean))


def test_samples_of_the_law_score_better_than_others():
  real = extracted(300, 1)
  good = protocol_lib.compute_metrics(extracted(200, 2), real, ALL)
  bad = protocol_lib.compute_metrics(extracted(200, 3, mean=60), real, ALL)
  for name in ('fid', 'kid', 'sliced_wasserstein'):
    assert good[name] < bad[name] / 3
  for name in ('precision', 'recall', 'density', 'coverage'):
    assert good[name] > bad[name] + 0.5


def test_only_what_is_asked_for_is_measured():
  real = extracted(30, 1)
  for name, numbers in protocol_lib.METRICS.items():
    found = protocol_lib.compute_metrics(real, real, Protocol((name,), 3))
    # The network has no classes; memorisation needs a third set.
    is_elsewhere = name in ('inception_score', 'nearest')
    assert set(found) == (set() if is_elsewhere else set(numbers))


def test_an_inception_score_needs_classes():
  some = extracted(40)
  logits = np.zeros((40, 10), np.float32)
  some = ImageFeatures(some.images, some.activations._replace(logits=logits))
  protocol = Protocol(('inception_score',), 3)
  found = protocol_lib.compute_metrics(some, extracted(5), protocol)
  assert found['inception_score'] == pytest.approx(1)
  protocol_lib.note_missing_classes(protocol, EXTRACTOR)


def test_pixels_are_in_units_of_white():
  black, white = (np.full((20, 8, 8, 1), x, np.uint8) for x in (0, 255))
  found = protocol_lib.compute_metrics(
    protocol_lib.extract(EXTRACTOR, black),
    protocol_lib.extract(EXTRACTOR, white),
    Protocol(('sliced_wasserstein',), 3),
  )
  # A shift by (1, ..., 1): its root mean square along directions is about 1.
  assert found['sliced_wasserstein'] == pytest.approx(1, rel=0.1)


def test_memorised_images_lie_closer_than_new_ones():
  train, held_out, samples = (
    extracted(200, 0),
    extracted(100, 1),
    extracted(100, 2),
  )
  new = protocol_lib.nearest_neighbours(held_out, train)
  found = protocol_lib.memorisation(
    protocol_lib.nearest_neighbours(samples, train), new
  )
  assert found['nearest_train_ratio'] == pytest.approx(1, abs=0.15)
  assert found['memorised_share'] < 0.1
  copies = protocol_lib.nearest_neighbours(train.subset(slice(50)), train)
  found = protocol_lib.memorisation(copies, new)
  # To the last digits of their features.
  assert found['nearest_train_ratio'] < 1e-3
  assert found['memorised_share'] == 1


def test_the_closest_pairs_are_shown_first():
  train = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones(
    (1, 4, 4, 1), np.uint8
  )
  samples = 100 + train
  found = NearestNeighbours(np.array([3.0, 1.0, 2.0]), np.array([2, 0, 1]))
  picture = protocol_lib.nearest_picture(samples, train, found)
  assert picture.shape[2] == 1
  row = picture[3, :, 0]
  # margin, sample, its neighbour, margin, ...
  assert list(row[2:10]) == [101] * 4 + [0] * 4
  assert list(row[12:20]) == [102] * 4 + [1] * 4


@pytest.mark.parametrize(
  ('name', 'num_samples', 'num_real', 'needed'),
  [('fid', 1, 50, 2), ('coverage', 9, 3, 4), ('inception_score', 9, 50, 10)],
)
def test_too_few_images_are_refused(name, num_samples, num_real, needed):
  with pytest.raises(UserError, match=f'{name}: needs {needed} images'):
    protocol_lib.check_sizes(Protocol((name,), 3), num_samples, num_real)
  assert not protocol_lib.has_enough_images(
    Protocol((name,), 3), num_samples, num_real
  )
  protocol_lib.check_sizes(Protocol((name,), 3), needed, needed)


def test_a_network_sees_each_image_alone():
  some = images(7)
  together = random_network.features(some)
  assert together.shape == (7, random_network.NUM_FEATURES)
  for i in range(7):
    alone = random_network.features(some[i : i + 1])
    np.testing.assert_array_equal(alone[0], together[i])
  assert 0.1 < together.std() < 10


@pytest.mark.parametrize('num', [0, 1, 4, 9])
def test_chunks_are_of_one_size(num):
  sizes = []

  def double(x):
    sizes.append(len(x))
    return 2.0 * x.sum(axis=(1, 2, 3)), x[:, 0, 0]

  x = images(num)
  totals, corners = in_chunks(double, x, 4)
  assert set(sizes) == {4}
  np.testing.assert_array_equal(totals, 2.0 * x.sum(axis=(1, 2, 3)))
  np.testing.assert_array_equal(corners, x[:, 0, 0])


def test_features_are_cached_for_the_same_images_alone(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  applied = []

  def apply(some):
    applied.append(len(some))
    return EXTRACTOR.apply(some)

  def extractor(digest):
    return features_lib.Extractor('random', digest, False, apply, {})

  some = images(5)
  first = features_lib.cached(extractor('a'), some)
  again = features_lib.cached(extractor('a'), some.copy())
  assert applied == [5]
  np.testing.assert_array_equal(first.features, again.features)
  assert again.logits is None
  changed = some.copy()
  changed[2, 3, 4] += 1
  features_lib.cached(extractor('a'), changed)
  features_lib.cached(extractor('b'), some)
  assert applied == [5, 5, 5]
  for number, harm in enumerate((lambda data: data[:100], without_a_row)):
    for entry in tmp_path.rglob('*.npz'):
      entry.write_bytes(harm(entry.read_bytes()))
    again = features_lib.cached(extractor('a'), some)
    assert applied == [5, 5, 5, *[5] * (number + 1)]
    np.testing.assert_array_equal(first.features, again.features)


def without_a_row(data):
  """Array data that claim to have four rows instead of five."""
  return data.replace(b"'shape': (5,", b"'shape': (4,")
