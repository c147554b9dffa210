"""`evaluate`: what it reports, and that it counts every image once."""

import json
import shutil

import numpy as np
import pytest

from common_flax import data
from common_flax.evaluation.reference_sets import create_unsupervised_extractor
from common_flax.evaluation.reference_sets import ExtractorSpec
from common_flax.likelihoods import observations
from common_flax.metrics import frechet
from vae_flax import evaluate
from vae_flax import trained as trained_lib
from vae_flax.metrics import likelihood


def arguments(workdir, metrics='likelihood'):
  return ['evaluate', f'--workdir={workdir}', f'--metrics={metrics}']


@pytest.fixture(scope='module')
def workdir(trained_vae, tmp_path_factory):
  """A finished run that has been evaluated."""
  folder = tmp_path_factory.mktemp('evaluated') / 'run'
  shutil.copytree(trained_vae, folder)
  assert evaluate.main(arguments(folder)) == 0
  return folder


@pytest.fixture(scope='module')
def report(workdir):
  return json.loads((workdir / 'evaluation.json').read_text())


def test_a_report_holds_metrics_and_their_provenance(report):
  provenance = report.pop('provenance')
  assert provenance.pop('seconds') > 0
  assert provenance == {
    'checkpoint_step': 8,
    'dataset': 'digits',
    'split': 'test',
    'num_images': 297,
    'num_importance_samples': 60,
    'likelihood': 'bernoulli',
    'prior': 'normal',
    'binarise': 'stochastic',
    'binarise_seed': 0,
    'seed': 0,
    'moving_average': True,
  }
  assert len(report['kl_per_latent_nats']) == 4
  assert sum(report['kl_per_latent_nats']) == pytest.approx(report['kl_nats'])


def test_the_terms_agree_with_each_other(report):
  assert report['elbo_nats'] == pytest.approx(
    report['reconstruction_nats'] - report['kl_nats']
  )
  assert -report['nll_nats'] >= report['elbo_nats']
  assert report['bits_per_dim'] == pytest.approx(
    report['nll_nats'] / (256 * np.log(2))
  )
  lowest, median = (
    report[f'{prefix}effective_samples'] for prefix in ('lowest_', '')
  )
  assert 1 <= lowest < median <= 60
  # Six draws are a worse bound than sixty.
  assert 0 < report['tenfold_gain_nats']
  assert report['tenfold_gain_nats'] < -report['nll_nats'] - report['elbo_nats']
  assert 0 <= report['active_units'] <= 4
  assert report['kl_nats'] == pytest.approx(
    report['aggregated_posterior_kl_nats'] + report['mutual_information_nats']
  )


def test_the_same_seed_gives_the_same_numbers(workdir, report):
  evaluate.main(arguments(workdir))
  again = json.loads((workdir / 'evaluation.json').read_text())
  for result in (again, report):
    result.pop('provenance', None)
  assert again == report


def test_every_image_counts_once_whatever_their_number(trained_vae):
  """The mean over two halves of the images is the mean over all of them."""
  trained = trained_lib.load(trained_vae)
  source = data.load_source('digits', 'test', 16)

  def nll(images, labels):
    part = type(source)(images, labels, 10)
    report = likelihood.measure(trained, part, part, 0, 50)
    return report['nll_nats']

  whole = nll(source.examples[:70], source.labels[:70])
  first = nll(source.examples[:69], source.labels[:69])
  last = 70 * whole - 69 * first
  assert 100 < last < 400  # one image's, not none's and not two's


def test_images_from_the_prior_are_scored(trained_vae, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained_vae, workdir)
  metrics = 'fid,precision,nearest'
  options = ['--features=random', '--num_samples=70', '--all_checkpoints']
  assert evaluate.main([*arguments(workdir, metrics), *options]) == 0
  found = json.loads((workdir / 'evaluation.json').read_text())
  assert found['fid'] > found['real_fid'] > 0  # it hardly trained
  assert found['real_nearest_train_ratio'] == 1
  assert 'nll_nats' not in found
  provenance = found['provenance']
  assert provenance['num_samples'] == 70
  assert provenance['num_real'] == 297
  assert [row['step'] for row in provenance['checkpoints']] == [4, 8]
  assert (workdir / 'nearest.png').exists()


def test_scores_can_be_counted_again_from_saved_samples(
  trained_vae, tmp_path, monkeypatch
):
  workdir, file = tmp_path / 'run', tmp_path / 'saved' / 'x.npz'
  shutil.copytree(trained_vae, workdir)
  options = ['--features=random', '--num_samples=70', f'--save_samples={file}']
  assert evaluate.main([*arguments(workdir, 'fid'), *options]) == 0
  found = json.loads((workdir / 'evaluation.json').read_text())
  with np.load(file, allow_pickle=False) as arrays:
    images = arrays['images']
  assert (images.shape, images.dtype) == ((70, 16, 16, 1), np.uint8)
  assert fid(images, found) == pytest.approx(found['fid'], rel=1e-6)
  assert abs(fid(images // 2, found) / found['fid'] - 1) > 1e-4


def fid(images, found):
  """The FID of images in the features and against the split of a report."""
  extractor = create_unsupervised_extractor(
    found['provenance']['features'], ExtractorSpec('random', None, 'clean')
  )
  real = data.load_source('digits', found['provenance']['split'], 16).examples
  return frechet.distance(
    *(
      frechet.moments(extractor.apply(each).features) for each in (images, real)
    )
  )


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    (['--metrics=likelihood', '--save_samples=x.npz'], ['draws no samples']),
    (['--save_samples=x.npy'], ['--save_samples=x.npy', '.npz']),
    (
      ['--save_samples=x.npz', '--all_checkpoints'],
      ['--save_samples=x.npz', 'drop --all_checkpoints'],
    ),
    (['--step=4', '--all_checkpoints'], ['--step', 'drop --all_checkpoints']),
  ],
)
def test_saving_samples_is_refused_before_any_work(
  refuses, monkeypatch, trained_vae, tmp_path, options, words
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(likelihood, 'training_source', None)
  monkeypatch.setattr(evaluate.reference_sets, 'create_reference_set', None)
  refuses(
    evaluate.main,
    [f'--workdir={trained_vae}', *options],
    *words,
    folder=tmp_path,
  )


@pytest.mark.parametrize('binarise', ['threshold', 'stochastic'])
def test_real_images_are_as_the_vae_observes_them(vae_config, binarise):
  """Black and white if they always are; by their means if they are drawn."""
  vae_config.dataset.binarise = binarise
  source = data.load_source('digits', 'test', 16)
  found = observations.as_observed(vae_config, source)
  if binarise == 'stochastic':
    assert found is source
    return
  assert len(found) == len(source)
  for name in ('num_classes', 'example_shape', 'dtype'):
    assert getattr(found, name) == getattr(source, name)
  np.testing.assert_array_equal(
    [found[i]['label'] for i in range(len(found))], source.labels
  )
  np.testing.assert_array_equal(
    data.first_examples(found, len(found)),
    np.where(source.examples < 128, 0, 255),
  )
