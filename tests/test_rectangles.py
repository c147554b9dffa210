"""Whole runs of rectangular images, with every picture and score of them."""

import json

from conftest import CONFIGS
import numpy as np
import pytest

from common_flax.workdir import writers
from gan_flax import evaluate as gan_evaluate
from gan_flax import main as gan_main
from gan_flax import sample as gan_sample
from vae_flax import evaluate as vae_evaluate
from vae_flax import main as vae_main
from vae_flax import sample as vae_sample

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 20, 13
SIZE = f'--config.dataset.image_size=({HEIGHT},{WIDTH})'


def fields(*names):
  return [f'--config.{name}' for name in names]


def trained(main, recipe, workdir, *arguments):
  argv = ['main', f'--config={CONFIGS / recipe}:smoke', f'--workdir={workdir}']
  assert main.main([*argv, SIZE, *arguments]) == 0
  last = sorted((workdir / 'samples').glob('*.png'))[-1]
  return np.asarray(writers.read_picture(last))


def scores(evaluate, workdir, *arguments):
  argv = ['evaluate', f'--workdir={workdir}', '--num_samples=50', *arguments]
  assert evaluate.main(argv) == 0
  return json.loads((workdir / 'evaluation.json').read_text())


def images_of(sample, workdir, *arguments):
  output = workdir / 'samples.npz'
  argv = ['sample', f'--workdir={workdir}', f'--output={output}', *arguments]
  assert sample.main(argv) == 0
  with np.load(output) as arrays:
    return arrays['images']


def test_a_gan_of_rectangles_is_trained_drawn_and_scored(tmp_path, capsys):
  workdir = tmp_path / 'run'
  picture = trained(
    gan_main,
    'dcgan.py',
    workdir,
    *fields('dataset.crop=random', 'augmentation.translation=True'),
    *fields('augmentation.cutout=True'),
  )
  said = capsys.readouterr().out
  assert said.count('work on 20x14 pixels') == 1
  assert picture.shape[0] % (HEIGHT + 2) == picture.shape[1] % (WIDTH + 2) == 2
  drawn = images_of(gan_sample, workdir, '--num_samples=6')
  assert drawn.shape == (6, HEIGHT, WIDTH, 1)
  metrics = '--metrics=fid,kid,sliced_wasserstein,nearest'
  report = scores(gan_evaluate, workdir, metrics, '--features=random')
  assert np.isfinite(report['fid'])
  # It resumes, although JSON keeps a rectangle as a list.
  again = ['main', f'--config={CONFIGS}/dcgan.py:smoke', SIZE]
  again += fields('dataset.crop=random', 'augmentation.translation=True')
  again += fields('augmentation.cutout=True')
  assert gan_main.main([*again, f'--workdir={workdir}']) == 0
  assert 'already finished' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['conv', 'mlp'])
def test_a_vae_of_rectangles_is_trained_drawn_and_scored(tmp_path, name):
  workdir = tmp_path / 'run'
  trained(
    vae_main,
    'vae.py',
    workdir,
    *fields(f'model.name={name}', 'dataset.crop=fit'),
    *fields('dataset.background=black', 'model.latent_size=2'),
    *(fields('model.base_features=32') if name == 'mlp' else ()),
  )
  for kind in ('prior', 'reconstruction', 'traversal', 'manifold'):
    drawn = images_of(vae_sample, workdir, f'--kind={kind}', '--num_samples=16')
    assert drawn.shape[1:] == (HEIGHT, WIDTH, 1)
  report = scores(vae_evaluate, workdir, '--num_importance_samples=50')
  nats = report['nll_nats'] / (HEIGHT * WIDTH * np.log(2))
  assert report['bits_per_dim'] == pytest.approx(nats)
