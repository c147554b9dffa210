"""The classifier of real images: its accuracy, its bits, its cache."""

import dataclasses
import os

from conftest import assert_same_arrays
import numpy as np
import pytest

from common_flax import data
from common_flax.data import caches
from common_flax.data.source import ArraySource
from common_flax.errors import UserError
from common_flax.metrics import classifier as classifier_lib

NUM_CLASSES = 3
MIN_STEPS = classifier_lib._MIN_STEPS  # before conftest.py lowers it


def noise(num, *shape, seed=0):
  """Images that are told apart by their brightness, and their classes."""
  random = np.random.default_rng(seed)
  labels = np.arange(num, dtype=np.int32) % NUM_CLASSES
  values = random.integers(0, 80, (num, *shape))
  images = values + 80 * labels[:, None, None, None]
  return ArraySource(images.astype(np.uint8), labels, NUM_CLASSES)


TRAIN, TEST = noise(90, 8, 8, 1), noise(30, 8, 8, 1, seed=1)


@pytest.fixture
def calls(monkeypatch):
  """The number of steps of each training, as its progress bar was told."""
  totals = []

  def track(items, total, description):
    assert 'classifier' in description
    totals.append(total)
    return items

  monkeypatch.setattr(classifier_lib, 'track', track)
  return totals


@pytest.fixture
def hurried(monkeypatch, tmp_path):
  """Few steps, and a cache of the test's own."""
  monkeypatch.setattr(classifier_lib, '_MIN_STEPS', 25)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))


@pytest.fixture
def in_full(monkeypatch):
  """All the steps that a user's classifier takes."""
  monkeypatch.setattr(classifier_lib, '_MIN_STEPS', MIN_STEPS)


def of_digits_in(split):
  return data.load_source('digits', split, 16)


@pytest.fixture(scope='module')
def of_digits():
  """The classifier of the digits, 16 pixels a side, hardly trained."""
  return classifier_lib.load_or_train(*map(of_digits_in, ('train', 'test')))


def cached_files():
  return list(caches.folder('classifiers').iterdir())


@pytest.mark.slow  # half the steps that a user's classifier takes
@pytest.mark.usefixtures('hurried')
def test_it_reads_digits_of_other_writers(monkeypatch):
  monkeypatch.setattr(classifier_lib, '_MIN_STEPS', MIN_STEPS // 2)
  train, test = map(of_digits_in, ('train', 'test'))
  classifier = classifier_lib.load_or_train(train, test)
  assert classifier.test_accuracy >= 0.95
  labels = classifier_lib.labels(classifier, test.examples)
  assert labels.dtype == np.int32
  assert np.mean(labels == test.labels) == classifier.test_accuracy


def test_results_do_not_depend_on_how_many_images_there_are(of_digits):
  images = data.load_source('digits', 'train', 16).examples[:600]
  features = classifier_lib.activations(of_digits, images)[0]
  labels = classifier_lib.labels(of_digits, images)
  for num in (0, 1, 7, 250, 251):
    some = classifier_lib.activations(of_digits, images[:num])[0]
    np.testing.assert_array_equal(some, features[:num])
    some = classifier_lib.labels(of_digits, images[:num])
    np.testing.assert_array_equal(some, labels[:num])
  assert labels.dtype == np.int32


def test_features_are_the_last_layers_input(of_digits):
  images = data.load_source('digits', 'test', 16).examples
  features = classifier_lib.activations(of_digits, images)[0]
  assert features.shape == (297, classifier_lib.NUM_FEATURES)
  assert features.dtype == np.float32
  last = of_digits.params['Dense_1']
  logits = features @ np.asarray(last['kernel']) + np.asarray(last['bias'])
  labels = classifier_lib.labels(of_digits, images)
  np.testing.assert_array_equal(np.argmax(logits, axis=1), labels)


@pytest.mark.parametrize(
  'images',
  [
    np.zeros((2, 16, 16, 3), np.uint8),
    np.zeros((2, 8, 8, 1), np.uint8),
    np.zeros((16, 16, 1), np.uint8),
    np.zeros((2, 16, 16, 1), np.float32),
  ],
)
@pytest.mark.parametrize('apply', ['labels', 'activations'])
def test_other_images_are_refused(of_digits, images, apply):
  with pytest.raises(ValueError, match=r'takes uint8 \[N, 16, 16, 1\]'):
    getattr(classifier_lib, apply)(of_digits, images)


def test_a_classifier_is_trained_once(hurried, calls):
  first, second = (classifier_lib.load_or_train(TRAIN, TEST) for _ in range(2))
  assert calls == [25]
  assert_same_arrays(first.params, second.params)
  for field in dataclasses.fields(first):
    if field.name != 'params':
      assert getattr(first, field.name) == getattr(second, field.name)
  assert [file.name for file in cached_files()] == [first.digest]


def test_trained_twice_it_has_the_same_bits(
  hurried, monkeypatch, tmp_path, calls
):
  first = classifier_lib.load_or_train(TRAIN, TEST)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'other'))
  second = classifier_lib.load_or_train(TRAIN, TEST)
  assert calls
  assert_same_arrays(first.params, second.params)
  np.testing.assert_array_equal(
    classifier_lib.labels(first, TEST.examples),
    classifier_lib.labels(second, TEST.examples),
  )


@pytest.mark.parametrize('harm', ['cut', 'one bit', 'nothing left'])
def test_a_harmed_cache_entry_is_replaced(hurried, harm, calls):
  first = classifier_lib.load_or_train(TRAIN, TEST)
  (file,) = cached_files()
  whole = file.read_bytes()
  middle = len(whole) // 2
  flipped = bytes([whole[middle] ^ 1])
  file.write_bytes(
    {
      'cut': whole[:middle],
      'one bit': whole[:middle] + flipped + whole[middle + 1 :],
      'nothing left': b'',
    }[harm]
  )
  calls.clear()
  second = classifier_lib.load_or_train(TRAIN, TEST)
  assert calls == [25]
  assert_same_arrays(first.params, second.params)
  assert file.read_bytes() == whole


def test_without_a_cache_it_goes_on(hurried, monkeypatch, tmp_path, calls):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  for _ in range(2):
    classifier_lib.load_or_train(TRAIN, TEST)
  assert calls == [25, 25]


def test_other_data_make_another_classifier():
  relabelled = TRAIN.labels.copy()
  relabelled[0] = 2
  pairs = [
    (TRAIN, TEST),
    (dataclasses.replace(TRAIN, labels=relabelled), TEST),
    (dataclasses.replace(TRAIN, examples=TRAIN.examples ^ 1), TEST),
    (TRAIN, noise(30, 8, 8, 1, seed=2)),
    (dataclasses.replace(TRAIN, num_classes=4), TEST),
  ]
  assert len({classifier_lib._digest(*pair) for pair in pairs}) == 5


def test_it_takes_images_of_an_odd_size_in_colour(hurried):
  train, test = noise(90, 9, 9, 3), noise(30, 9, 9, 3, seed=1)
  classifier = classifier_lib.load_or_train(train, test)
  assert classifier.image_shape == (9, 9, 3)
  assert classifier.test_accuracy >= 0.6  # by chance: 0.33


@pytest.mark.parametrize('which', [0, 1])
def test_images_without_labels_are_refused(which):
  sources = [TRAIN, TEST]
  sources[which] = dataclasses.replace(sources[which], num_classes=None)
  with pytest.raises(UserError, match=r'config\.dataset: .*labels'):
    classifier_lib.load_or_train(*sources)


def test_points_are_refused():
  source = data.load_source('ring', 'test', 8)
  with pytest.raises(UserError, match='images'):
    classifier_lib.load_or_train(source, source)


@pytest.mark.parametrize(
  ('num_examples', 'num_steps'),
  [(1, 1000), (1500, 1000), (60_000, 2812), (1_000_000, 10_000)],
)
@pytest.mark.usefixtures('in_full')
def test_steps_follow_the_size_of_the_data(num_examples, num_steps):
  assert classifier_lib._num_steps(num_examples) == num_steps


@pytest.mark.slow
@pytest.mark.skipif(
  'TFDS_DATA_DIR' not in os.environ, reason='needs TFDS_DATA_DIR with mnist'
)
@pytest.mark.usefixtures('in_full')
def test_it_reads_the_real_mnist():
  """A third of it is read well already."""
  splits = ('train[:20000]', 'test')
  classifier = classifier_lib.load_or_train(
    *(data.load_source('mnist', split, 28) for split in splits)
  )
  assert classifier.test_accuracy >= 0.98
