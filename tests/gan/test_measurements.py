"""Class metrics of stub generators."""

import json
import math
import types

from conftest import recipe
import numpy as np
import pytest

from common_flax import data
from common_flax.data import digits
from common_flax.errors import UserError
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.metrics import classifier as classifier_lib
from common_flax.workdir import layout as workdir_lib
from gan_flax import config as gan_config
from gan_flax import evaluate
from gan_flax import measurements
from gan_flax import mode_coverage
from gan_flax.trained import CHUNK

SIZE = 8
SPEC = ExtractorSpec('auto', None, 'clean')


def dataset(**changes):
  config = gan_config.default().dataset.unlock()
  config.image_size = SIZE
  config.update(changes)
  return config


@pytest.fixture
def oracle(monkeypatch):
  """A classifier that knows the digits and calls all other images 0."""
  classes = {}
  for split in ('train', 'test'):
    source = digits.load(split, SIZE)
    for image, label in zip(source.examples, source.labels, strict=True):
      classes[image.tobytes()] = label

  def labels(classifier, images):
    assert images.shape[1:] == (SIZE, SIZE, 1)
    return np.array([classes.get(x.tobytes(), 0) for x in images], np.int32)

  known = types.SimpleNamespace(
    num_classes=10, test_accuracy=1.0, digest='oracle'
  )
  monkeypatch.setattr(classifier_lib, 'load_or_train', lambda *sources: known)
  monkeypatch.setattr(classifier_lib, 'labels', labels)


class Stub:
  """A generator of real images.

  `choose` maps the requested class of a sample to the class it draws.
  """

  def __init__(self, source, choose, is_conditional=True):
    self.gan = types.SimpleNamespace(
      is_conditional=is_conditional, num_classes=source.num_classes
    )
    _, first = np.unique(source.labels, return_index=True)
    self._images = source.examples[first]  # one of each class
    self._choose = choose

  def chunks(self, key, num, label=None):
    asked = np.arange(num) if label is None else label
    images = self._images[[self._choose(k) for k in asked]]
    for start in range(0, num, CHUNK):
      yield images[start : start + CHUNK]


def of_classes(dataset, num, metrics=(measurements.CLASSES,)):
  return measurements.create_evaluator(dataset, 'test', num, metrics, SPEC, 5)


def measured(dataset, stub, num=100):
  evaluator = of_classes(dataset, num)
  return evaluator, evaluator.score(stub, None, num).metrics


def test_samples_of_the_requested_classes_agree_fully(oracle):
  stub = Stub(digits.load('test', SIZE), lambda k: k)
  evaluator, found = measured(dataset(), stub)
  assert found['label_agreement'] == found['lowest_label_agreement'] == 1
  assert found['label_agreement_by_class'] == [1] * 10
  assert found['modes_covered'] == 10
  assert found['mode_kl_nats'] == pytest.approx(0, abs=1e-12)
  assert evaluator.provenance['num_classified_real'] == 100
  assert evaluator.provenance['classifier_test_accuracy'] == 1


def test_a_generator_of_one_class_covers_one(oracle):
  stub = Stub(digits.load('test', SIZE), lambda k: 3)
  _, found = measured(dataset(), stub)
  assert found['label_agreement'] == pytest.approx(0.1)
  assert found['lowest_label_agreement'] == 0
  assert found['label_agreement_by_class'] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
  assert found['modes_covered'] == 1
  assert found['mode_kl_nats'] == pytest.approx(math.log(10))


def test_one_bad_class_is_the_lowest(oracle):
  stub = Stub(digits.load('test', SIZE), lambda k: 8 if k == 9 else k)
  _, found = measured(dataset(), stub)
  assert found['label_agreement'] == pytest.approx(0.9)
  assert found['lowest_label_agreement'] == 0
  assert found['modes_covered'] == 9


def test_without_labels_only_classes_are_counted(oracle):
  source = digits.load('test', SIZE)
  stub = Stub(source, lambda i: i % 4, is_conditional=False)
  _, found = measured(dataset(), stub)
  assert set(found) == {'modes_covered', 'mode_kl_nats'}
  assert found['modes_covered'] == 4


def test_baselines_are_real_and_perfect_samples(oracle):
  evaluator = of_classes(dataset(), 1000)
  real, perfect = (evaluator.baselines[name] for name in ('real', 'perfect'))
  assert evaluator.provenance['num_classified_real'] == 297  # all of them
  assert real['label_agreement'] == real['lowest_label_agreement'] == 1
  assert real['modes_covered'] == perfect['modes_covered'] == 10
  assert perfect['mode_kl_nats'] == pytest.approx(9 / 2000)
  assert 0 < real['mode_kl_nats'] < 0.05


def test_expected_score_of_perfect_samples():
  """By chance, for equally frequent classes."""
  random = np.random.default_rng(0)
  found = [
    mode_coverage.class_coverage(random.integers(0, 10, 500), 10)
    for _ in range(300)
  ]
  mean = np.mean([row['mode_kl_nats'] for row in found])
  assert mean == pytest.approx(9 / 1000, rel=0.15)


def test_stacks_are_classified_channel_by_channel(oracle):
  stacked = dataset(name='stacked')
  source = data.load_source('stacked', 'test', SIZE)
  evaluator, found = measured(stacked, Stub(source, lambda k: k), 1000)
  assert found['label_agreement'] == 1
  assert found['modes_covered'] == 1000
  labels = source.labels[:1000]
  assert evaluator.baselines['real']['label_agreement'] == 1
  covered = evaluator.baselines['real']['modes_covered']
  assert covered == len(np.unique(labels))


def test_default_number_of_samples():
  numbers = [
    measurements.default_num_samples(dataset(name=name))
    for name in ('ring', 'stacked', 'digits', 'mnist')
  ]
  assert numbers == [2500, 26_000, 10_000, 10_000]


def test_classes_of_images_without_labels_are_refused(photographs):
  unlabelled = dataset(name='folder', path=str(photographs / 'china'))
  with pytest.raises(UserError, match='classes: not available here'):
    of_classes(unlabelled, 10)


def test_without_a_checkpoint_no_classifier_is_trained(
  tmp_path, monkeypatch, capsys
):
  """Training one takes minutes."""
  monkeypatch.delattr(classifier_lib, 'load_or_train')
  workdir_lib.write_config(tmp_path, recipe('dcgan.py', 'smoke'))
  assert evaluate.main(['', f'--workdir={tmp_path}']) == 2
  error = capsys.readouterr().err
  assert error.endswith('holds no checkpoint; train first\n')
  assert error.count('\n') == 1


def test_the_evaluation_of_a_conditional_run(
  trained_conditional, monkeypatch, tmp_path, capsys
):
  """With a classifier that was hardly trained."""
  monkeypatch.setattr(classifier_lib, '_MIN_STEPS', 0)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setenv('COLUMNS', '120')
  arguments = [f'--workdir={trained_conditional}', '--num_samples=100']
  arguments.append('--metrics=classes')
  assert evaluate.main(['', *arguments]) == 0
  result = json.loads((trained_conditional / 'evaluation.json').read_text())
  by_class = result['label_agreement_by_class']
  assert len(by_class) == 10
  assert result['label_agreement'] == pytest.approx(np.mean(by_class))
  assert result['lowest_label_agreement'] == min(by_class)
  assert result['real_label_agreement'] > 0.3  # by chance: 0.1
  assert len(result['real_label_agreement_by_class']) == 10
  assert result['perfect_label_agreement'] == 1
  assert result['perfect_modes_covered'] == 10
  assert 0.3 < result['provenance']['classifier_test_accuracy'] < 1
  assert result['provenance']['num_classified_real'] == 100
  printed = capsys.readouterr().out
  for words in ('label agreement', 'real examples', 'perfect samples'):
    assert words in printed
  assert 'by class' not in printed
