"""Whole runs and commands: what they leave, and what they refuse."""

import json

from conftest import assert_same_arrays
from conftest import assert_same_end
from conftest import final_state
from conftest import read_metrics
from conftest import recipe
import jax
import numpy as np
import PIL.Image
import pytest

from common_flax.errors import UserError
from common_flax.explore import runs
from common_flax.export import __main__ as export
from vq_flax import evaluate
from vq_flax import main as main_lib
from vq_flax import sample
from vq_flax.train import train
from vq_flax.watch import judge

pytestmark = pytest.mark.usefixtures('in_the_repository')
SMOKE = '--config=configs/vq.py:smoke'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """The workdir of a finished smoke run; read-only."""
  workdir = tmp_path_factory.mktemp('trained_vq') / 'run'
  assert train(recipe('vq.py', 'smoke'), workdir) is None
  return workdir


def test_a_run_leaves_what_it_promises(trained):
  assert [row['step'] for row in read_metrics(trained)] == [2, 4, 6, 8]
  assert set(read_metrics(trained)[-1]) >= {
    'loss_nats',
    'reconstruction_nats',
    'commitment',
    'perplexity',
    'codes_used',
    'code_perplexity',
    'images_per_second',
  }
  for name in ('config.json', 'curves.png', 'samples.gif', 'report.html'):
    assert (trained / name).stat().st_size
  state = final_state(trained, 'vq')
  assert set(state.params) == {'encoder', 'decoder', 'codebooks'}


@pytest.mark.parametrize(
  ('name', 'parallelism'),
  [('vq.py', 'jit'), pytest.param('fsq.py', 'pmap', marks=pytest.mark.slow)],
)
def test_resuming_gives_the_same_bits(tmp_path, name, parallelism):
  config = recipe(name, 'smoke').unlock()
  config.parallelism = parallelism
  config.num_steps = 12
  train(config, tmp_path / 'straight')
  config.num_steps = 6
  train(config, tmp_path / 'halves')
  config.num_steps = 12
  train(config, tmp_path / 'halves')
  (tmp_path / 'halves' / 'samples' / 'step_00000006.png').unlink()
  assert_same_end(tmp_path / 'halves', tmp_path / 'straight')


def test_training_starts_from_the_weights_and_codes_of_another_run(
  tmp_path, trained
):
  config = recipe('vq.py', 'smoke').unlock()
  config.num_steps = 2
  config.optimizer.learning_rate = 1e-30
  config.codebook.decay = 1 - 1e-7
  config.codebook.restart_below = 0.0
  train(config, tmp_path, init_from=trained)
  given, adopted = final_state(trained, 'vq'), final_state(tmp_path, 'vq')
  assert_same_arrays(given.params['encoder'], adopted.params['encoder'])
  np.testing.assert_allclose(
    adopted.params['codebooks'], given.params['codebooks'], rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(
  'kind', ['reconstruction', 'interpolation', 'codebook']
)
def test_pictures_are_drawn(tmp_path, trained, kind):
  path = tmp_path / 'grid.png'
  arguments = [f'--workdir={trained}', f'--kind={kind}', f'--output={path}']
  num = 16 if kind == 'codebook' else 20  # there are 16 codes
  assert sample.main(['command', *arguments, f'--num_samples={num}']) == 0
  columns = 4 if kind == 'codebook' else 8
  rows = -(-num // columns)
  with PIL.Image.open(path) as grid:
    assert grid.size == (18 * columns + 2, 18 * rows + 2)


def test_more_codes_than_there_are_are_refused(refuses, trained, tmp_path):
  arguments = [f'--workdir={trained}', '--kind=codebook', '--num_samples=17']
  arguments.append(f'--output={tmp_path}/x.png')
  refuses(sample.main, arguments, 'num_samples', '16 codes', folder=tmp_path)


def test_more_reconstructions_than_images_are_refused(
  refuses, trained, tmp_path
):
  arguments = [f'--workdir={trained}', '--metrics=kid', '--num_samples=9999']
  refuses(evaluate.main, arguments, 'num_samples', '297', folder=tmp_path)


def test_an_interpolation_leads_from_a_reconstruction_to_another(
  tmp_path, trained
):
  drawn = {}
  for kind in ('reconstruction', 'interpolation'):
    path = tmp_path / f'{kind}.npy'
    arguments = [f'--workdir={trained}', f'--kind={kind}', f'--output={path}']
    assert sample.main(['command', *arguments, '--num_samples=8']) == 0
    drawn[kind] = np.load(path)
  ends = drawn['interpolation'][[0, -1]]
  np.testing.assert_array_equal(ends, drawn['reconstruction'][[1, 3]])


def test_codes_decode_to_the_reconstructions(tmp_path, trained):
  path = tmp_path / 'codes.npz'
  arguments = [f'--workdir={trained}', '--kind=codes', f'--output={path}']
  assert sample.main(['command', *arguments]) == 0
  with np.load(path) as arrays:
    codes, labels = arrays['codes'], arrays['label']
    assert list(arrays['class_names']) == [str(i) for i in range(10)]
  assert codes.shape == (len(labels), 4, 4, 1)
  vq = sample.load(trained)
  images = vq.decode(codes[:3])
  assert images.shape == (3, 16, 16, 1)
  assert images.dtype == np.uint8
  again = vq.encode(jax.random.key(0), np.zeros((2, 16, 16, 1), np.uint8))
  assert again.shape == (2, 4, 4, 1)


@pytest.mark.parametrize(
  ('codes', 'words'),
  [
    (np.zeros((1, 4, 4, 1)), 'integers'),
    (np.zeros((1, 4, 4), np.int32), r'\[N, 4, 4, 1\]'),
    (np.full((1, 4, 4, 1), 16), 'from 0 to 15'),
    (np.full((1, 4, 4, 1), -1), 'from 0 to 15'),
  ],
)
def test_codes_that_do_not_exist_are_refused(trained, codes, words):
  with pytest.raises(UserError, match=words):
    sample.load(trained).decode(codes)


def test_images_of_another_kind_are_refused(trained):
  vq, key = sample.load(trained), jax.random.key(0)
  with pytest.raises(UserError, match='uint8'):
    vq.encode(key, np.zeros((1, 16, 16, 1)))
  with pytest.raises(UserError, match=r'\[16, 16, 1\]'):
    vq.encode(key, np.zeros((1, 8, 8, 1), np.uint8))


@pytest.mark.slow
def test_evaluation_writes_the_bound_and_scores(trained):
  arguments = [f'--workdir={trained}', '--num_samples=60', '--features=random']
  assert evaluate.main(['command', *arguments]) == 0
  found = json.loads((trained / 'evaluation.json').read_text())
  assert found['bound_nats'] == pytest.approx(
    found['distortion_nats'] + found['rate_unigram_nats']
  )
  assert found['fid'] > found['real_fid']
  assert found['provenance']['scored'] == 'reconstructions'


def test_only_the_bound_refuses_flags_of_images(refuses, trained, tmp_path):
  arguments = [f'--workdir={trained}', '--metrics=bound', '--num_samples=9']
  refuses(evaluate.main, arguments, 'num_samples', 'bound', folder=tmp_path)


@pytest.mark.parametrize(
  ('argument', 'words'),
  [
    ('model.name=vae', ['fsq', 'vq']),
    ('model.num_halvings=9', ['at most 8']),
    ('model.num_halvings=5', ['16 pixels']),
    ('model.levels=(8,1)', ['at least 2', '(8, 8, 8)']),
    ('model.levels=(256,257)', ['65,536']),
    ('model.num_codes=1', ['at least 2']),
    ('codebook.decay=1.0', ['below 1']),
    ('codebook.restart_below=20.0', ['256 cells', 'num_codes=16']),
    ('codebook.start=kmeans', ['k_means']),
    ('model.gradient=st', ['rotation']),
    ('commitment=-1.0', ['from 0']),
    ('dataset.binarise=none', ['binarise', 'grey']),
    ('dataset.name=ring', ['points']),
  ],
)
def test_a_wrong_field_is_one_line(refuses, tmp_path, argument, words):
  field = argument.split('=')[0]
  arguments = [SMOKE, f'--workdir={tmp_path}/run', f'--config.{argument}']
  refuses(main_lib.main, arguments, field, *words, folder=tmp_path)


def test_other_tools_say_what_they_cannot_do(refuses, trained, tmp_path):
  arguments = [f'--workdir={trained}', f'--output={tmp_path}/out']
  refuses(export.main, arguments, 'of discrete latents', folder=tmp_path)
  with pytest.raises(UserError, match='can be explored'):
    runs.find([str(trained)])


@pytest.mark.parametrize(
  ('changes', 'cures', 'others'),
  [
    ({}, ['rotation', 'num_codes'], ['start', 'restart_below', 'learning']),
    ({'codebook.start': 'random'}, ['codebook.start=k_means'], ['learning']),
    (
      {'codebook.restart_below': 0.0, 'codebook.learning': 'gradient'},
      ['codebook.restart_below=1.0', 'codebook.learning=average'],
      ['k_means'],
    ),
    ({'model.name': 'fsq'}, ['model.levels'], ['codebook', 'rotation']),
  ],
)
def test_a_dying_codebook_is_said_with_what_helps(changes, cures, others):
  config = recipe('vq.py').unlock()
  config.update_from_flattened_dict(changes)
  warning = judge(config, True, [{'codes_used': 0.1}]).warning
  assert '10% of the codes' in warning
  assert all(cure in warning for cure in cures)
  assert not any(cure in warning for cure in others)
  assert judge(config, True, [{'codes_used': 0.5}]).warning is None
  assert judge(config, False, [{'codes_used': 0.1}]).warning is None


@pytest.mark.slow
def test_a_codebook_that_dies_is_said_in_training(tmp_path, capsys):
  config = recipe('vq.py', 'smoke').unlock()
  config.model.num_codes = 256
  config.codebook.start = 'random'
  config.codebook.restart_below = 0.0
  config.codebook.learning = 'gradient'
  config.num_steps = 40
  train(config, tmp_path)
  assert capsys.readouterr().out.count('the codebook is dying') == 1


@pytest.mark.parametrize(
  ('policy', 'words'), [('stop', 'not finite'), ('skip', '3 steps skipped')]
)
def test_a_loss_that_is_not_finite_follows_the_policy(
  tmp_path, capfd, policy, words
):
  """A learning rate that overflows makes the second step's loss no number."""
  arguments = [
    SMOKE,
    f'--workdir={tmp_path}/run',
    '--config.optimizer.learning_rate=1e30',
    f'--config.on_nan={policy}',
    '--config.on_nan_max_skips=2' if policy == 'skip' else '--config.seed=0',
  ]
  assert main_lib.main(['command', *arguments]) == 1
  assert words in capfd.readouterr().err
