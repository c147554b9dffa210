"""Inception score: its extremes, and a definition written out."""

import numpy as np
import pytest

from common_flax.metrics import inception_score

NUM_CLASSES = 5


def test_who_knows_nothing_scores_one():
  logits = np.zeros((40, NUM_CLASSES), np.float32)
  found = inception_score.score(logits, num_splits=4, seed=0)
  assert found == pytest.approx((1, 0))


def test_sure_and_balanced_classes_score_their_number():
  classes = np.arange(100) % NUM_CLASSES
  logits = 1000.0 * np.eye(NUM_CLASSES, dtype=np.float32)[classes]
  found = inception_score.score(logits, num_splits=1, seed=0)
  assert found == pytest.approx((NUM_CLASSES, 0))


def test_one_sure_class_scores_one():
  logits = np.zeros((20, NUM_CLASSES), np.float32)
  logits[:, 2] = 1000
  found = inception_score.score(logits, num_splits=2, seed=0)
  assert found == pytest.approx((1, 0))


def test_it_is_the_papers_formula():
  logits = np.random.default_rng(0).normal(size=(30, NUM_CLASSES))
  p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  divergences = (p * np.log(p / p.mean(axis=0))).sum(axis=1)
  mean, _ = inception_score.score(logits, num_splits=1, seed=0)
  assert mean == pytest.approx(np.exp(divergences.mean()), rel=1e-12)


def test_too_few_images_are_refused():
  with pytest.raises(ValueError, match='too few for 10 splits'):
    inception_score.score(np.zeros((9, 3)), num_splits=10, seed=0)
