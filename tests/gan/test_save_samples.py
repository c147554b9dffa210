"""`evaluate --save_samples`: numbers that can be counted again."""

import json
import shutil

import numpy as np
import pytest

from common_flax import data
from common_flax.evaluation.reference_sets import create_unsupervised_extractor
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.metrics import frechet
from gan_flax import evaluate


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
  darker = frechet.moments(extractor.apply(images // 2).features)
  assert abs(frechet.distance(darker, of_real) / fid - 1) > 1e-4


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
