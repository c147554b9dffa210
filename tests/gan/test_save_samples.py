"""`evaluate --save_samples`: numbers that can be counted again."""

import json
import shutil

from conftest import points_run
import numpy as np
import pytest

from common_flax import data
from common_flax.data.worlds import WORLDS
from common_flax.evaluation.reference_sets import create_unsupervised_extractor
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.metrics import frechet
from gan_flax import evaluate
from gan_flax import mode_coverage
from gan_flax.train import train


def arrays_of(path):
  with np.load(path, allow_pickle=False) as file:
    return dict(file)


def evaluated(workdir, tmp_path, *options):
  """The report on a copy of a run, and the samples that it saved."""
  shutil.copytree(workdir, tmp_path / 'run')
  file = tmp_path / 'x.npz'
  arguments = [f'--workdir={tmp_path}/run', f'--save_samples={file}', *options]
  assert evaluate.main(['', *arguments]) == 0
  report = json.loads((tmp_path / 'run' / 'evaluation.json').read_text())
  return report, arrays_of(file)


def test_fid_is_that_of_the_saved_images(trained_conditional, tmp_path):
  options = ['--metrics=fid', '--features=random', '--num_samples=70']
  report, saved = evaluated(trained_conditional, tmp_path, *options)
  images = saved['images']
  assert (images.shape, images.dtype) == ((70, 16, 16, 1), np.uint8)
  np.testing.assert_array_equal(saved['labels'], np.arange(70) % 10)
  assert saved['class_names'].tolist() == list('0123456789')
  assert report['provenance']['class_names'] == list('0123456789')
  extractor = create_unsupervised_extractor(
    'random', ExtractorSpec('random', None, 'clean')
  )
  real = data.load_source('digits', 'test', 16).examples
  of_samples, of_real = (
    frechet.moments(extractor.apply(each).features) for each in (images, real)
  )
  fid = frechet.distance(of_samples, of_real)
  assert fid == pytest.approx(report['fid'], rel=1e-6)
  shifted = frechet.moments(extractor.apply(255 - images).features)
  assert frechet.distance(shifted, of_real) > 1.1 * fid


def test_modes_are_those_of_the_saved_points(tmp_path):
  workdir = tmp_path / 'trained'
  train(points_run(num_steps=2, num_seeds=2), workdir)
  report, saved = evaluated(workdir, tmp_path, '--num_samples=50')
  assert saved['points'].shape == (2, 50, 2)
  for row, points in zip(report['seeds'], saved['points'], strict=True):
    found = mode_coverage.coverage(points, WORLDS['ring'])._asdict()
    assert row == {'seed': row['seed'], **found}


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (['--save_samples=x.png'], ['--save_samples=x.png', '.npz']),
    (['--save_samples=folder'], ['--save_samples=folder', '.npz']),
    (['--save_samples=gs://b/x.npz'], ['--save_samples=gs://b/x.npz']),
    (['--save_samples=x.npz', '--all_checkpoints'], ['--all_checkpoints']),
  ],
)
def test_what_cannot_be_saved_is_refused_before_any_work(
  refuses, monkeypatch, trained, tmp_path, options, words
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(evaluate.measurements, 'create_evaluator', None)
  arguments = [f'--workdir={trained}', *options]
  refuses(evaluate.main, arguments, *words, folder=tmp_path)
