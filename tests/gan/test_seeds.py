"""Runs of several seeds, and the commands that read them."""

import functools
import json
import shutil

from conftest import assert_same_end
from conftest import final_state
from conftest import read_metrics
from conftest import recipe
import jax
import numpy as np
import PIL.Image
import pytest

from common_flax import data
from common_flax import prng
from common_flax.data.batches import join
from common_flax.data.worlds import WORLDS
from common_flax.distributed import sharding
from common_flax.training import loop
from common_flax.training import seeds as seeds_lib
from common_flax.training.inputs import Inputs
from common_flax.workdir import layout as workdir_lib
from gan_flax import evaluate
from gan_flax import generation
from gan_flax import main
from gan_flax import mode_coverage
from gan_flax import sample
from gan_flax import steps
from gan_flax.gan import create_gan
from gan_flax.state import init_state
from gan_flax.train import train

NUM_SEEDS = 3


def points_config(**changes):
  config = recipe('ring.py', 'smoke')
  config.update_from_flattened_dict(changes)
  return config


@pytest.fixture(scope='module')
def several(tmp_path_factory):
  """The workdir of a finished run of three seeds; read-only."""
  workdir = tmp_path_factory.mktemp('several') / 'run'
  train(points_config(num_seeds=NUM_SEEDS, seed=5), workdir)
  return workdir


def trained_by(first, num_seeds, num_steps=20, **changes):
  """The state after some steps with one seed or several, in float64."""
  config = points_config(compute_dtype='float64', **changes)
  source = data.load_source('ring', 'train', 0)
  gan = create_gan(config, (2,), source.num_classes)
  inputs = Inputs(source, config.batch_size, 1, num_seeds, gan.is_conditional)
  functions = seeds_lib.vectorise(
    seeds_lib.Functions(
      functools.partial(init_state, gan),
      functools.partial(steps.train_step, gan),
      functools.partial(
        inputs.batches, num_steps=num_steps, rows=slice(config.batch_size)
      ),
    ),
    num_seeds,
  )
  roots = seeds_lib.root_keys(first, num_seeds)
  parallel = sharding.create('jit', num_seeds)
  state = parallel.spread(jax.jit(functions.init)(roots))
  step = parallel.compile(
    loop.chain_steps(functions.step, 1, skip_not_finite=False, unroll=True)
  )
  for batch in functions.batches(first, 0):
    state, _ = step(state, parallel.put_batches(join([batch])), roots)
  return jax.device_get(state)


@pytest.mark.parametrize(
  'changes',
  [
    pytest.param({}, id='plain'),
    pytest.param(
      {'penalty.every_steps': 2}, id='lazy penalty', marks=pytest.mark.slow
    ),
    pytest.param(
      {'model.name': 'pacgan', 'model.packing': 2},
      id='batch norm of packs',
      marks=pytest.mark.slow,
    ),
    pytest.param(
      {'model.name': 'pacgan', 'model.conditioning': 'projection'},
      id='labels',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_each_seed_computes_what_it_computes_alone(changes):
  """Three runs on three devices, and one alone."""
  with jax.enable_x64(True):
    together = trained_by(5, 3, **changes)
    alone = trained_by(7, 1, **changes)
  leaves = zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True)
  for x, expected in leaves:
    np.testing.assert_allclose(x[2], expected, rtol=1e-9, atol=1e-9)
  assert alone.step == 20


@pytest.mark.parametrize(
  ('num_seeds', 'num_devices'), [(3, 3), (7, 7), (10, 5), (11, 1), (16, 8)]
)
def test_seeds_are_spread_evenly_over_devices(num_seeds, num_devices):
  """On as many of the eight devices as divide the number of seeds."""
  parallel = sharding.create('jit', num_seeds)
  assert parallel.num_devices == num_devices
  state = parallel.spread(np.zeros((num_seeds, 2)))
  assert len(state.sharding.device_set) == num_devices
  shares = {shard.data.shape for shard in state.addressable_shards}
  assert shares == {(num_seeds // num_devices, 2)}


@pytest.mark.slow  # convolutions of two seeds compile slowly
def test_image_gans_train_with_several_seeds(tmp_path, smoke_config):
  smoke_config.num_seeds = 2
  train(smoke_config, tmp_path / 'run')
  for name, shape in (('x.npz', (2, 5, 16, 16, 1)), ('y.npz', (5, 16, 16, 1))):
    arguments = [] if name == 'x.npz' else ['--seed_index=1']
    assert run(sample, tmp_path / 'run', tmp_path / name, *arguments) == 0
    images = read(tmp_path / name, 'images')
    assert images.shape == shape
    assert images.dtype == np.uint8
  both = read(tmp_path / 'x.npz', 'images')
  np.testing.assert_array_equal(both[1], images)
  assert run(sample, tmp_path / 'run', tmp_path / 'x.png') == 0
  with PIL.Image.open(tmp_path / 'x.png') as picture:
    assert picture.size == (5 * 18 + 2, 2 * 18 + 2)  # one row per seed
  arguments = ['--kind=interpolation', '--num_samples=16']
  assert run(sample, tmp_path / 'run', tmp_path / 'y.png', *arguments) == 0
  with PIL.Image.open(tmp_path / 'y.png') as picture:
    assert picture.size == (8 * 18 + 2, 4 * 18 + 2)  # two rows per seed


def run(command, workdir, output, *arguments):
  return command.main(
    [
      '',
      f'--workdir={workdir}',
      f'--output={output}',
      '--num_samples=5',
      *arguments,
    ]
  )


def read(path, name):
  with np.load(path, allow_pickle=False) as file:
    return file[name]


def test_metrics_are_means_with_standard_errors(several):
  rows = read_metrics(several)
  assert [row['step'] for row in rows] == [2, 4, 6, 8]
  for name in ('d_loss', 'g_loss', 'real_score', 'd_grad_norm'):
    assert rows[-1][f'{name}_standard_error'] > 0
    assert np.isfinite(rows[-1][name])


def test_seeds_differ_from_one_another(several):
  weights = jax.tree.leaves(final_state(several).generator.params)[1]
  assert len(weights) == NUM_SEEDS
  assert not np.array_equal(weights[0], weights[1])


def test_resuming_several_seeds_gives_the_same_bits(several, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(several, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '8')
  train(points_config(num_seeds=NUM_SEEDS, seed=5), workdir)
  assert 'Training on 3 x ' in capsys.readouterr().out  # of eight devices
  assert_same_end(workdir, several)


def test_samples_of_all_seeds_contain_those_of_each(several, tmp_path):
  assert run(sample, several, tmp_path / 'all.npz') == 0
  every = read(tmp_path / 'all.npz', 'points')
  assert every.shape == (NUM_SEEDS, 5, 2)
  assert every.dtype == np.float32
  for index in range(NUM_SEEDS):
    output = tmp_path / f'{index}.npz'
    assert run(sample, several, output, f'--seed_index={index}') == 0
    np.testing.assert_array_equal(read(output, 'points'), every[index])
  sampler = sample.load(several, seed_index=1)
  key = prng.stream(prng.root_key(0), 'sample')
  np.testing.assert_array_equal(sampler.generate(key, 5), every[1])
  assert sampler.seed == 6


def test_latents_of_all_seeds_give_the_points_of_each(several, tmp_path):
  def draw(name, *arguments):
    output = f'--output={tmp_path}/{name}.npz'
    assert sample.main(['', f'--workdir={several}', output, *arguments]) == 0
    with np.load(tmp_path / f'{name}.npz', allow_pickle=False) as file:
      return dict(file)

  every = draw('every', '--seeds=4,9')
  assert every['latents'].shape == (NUM_SEEDS, 2, 2)
  given = f'--latents={tmp_path}/every.npz'
  again, one = draw('again', given), draw('one', given, '--seed_index=1')
  for name, array in every.items():
    np.testing.assert_array_equal(again[name], array)
    np.testing.assert_array_equal(one[name], array[1])
  # Each seed takes its own latents.
  every['latents'][1] += 1
  np.savez(tmp_path / 'every.npz', **every)
  moved = draw('moved', given)['points']
  same = (moved == every['points']).all(axis=(1, 2))
  assert same.tolist() == [True, False, True]


def test_interpolations_of_all_seeds_contain_those_of_each(several, tmp_path):
  """Also with truncated latents."""
  arguments = ['--kind=interpolation', '--truncation=0.5']
  assert run(sample, several, tmp_path / 'all.npz', *arguments) == 0
  every = read(tmp_path / 'all.npz', 'points')
  assert every.shape == (NUM_SEEDS, 5, 2)
  key = prng.stream(prng.root_key(0), 'sample')
  for index, points in enumerate(every):
    sampler = sample.load(several, seed_index=index)
    (expected,) = sampler.chunks(key, 5, 'interpolation', 0.5)
    np.testing.assert_array_equal(points, expected)
    ends = sampler.generate(key, 1, 0.5)
    np.testing.assert_allclose(points[:1], ends, atol=1e-5)


def test_evaluation_covers_all_seeds(several):
  assert evaluate.main(['', f'--workdir={several}', '--num_samples=50']) == 0
  result = json.loads((several / 'evaluation.json').read_text())
  assert [row['seed'] for row in result['seeds']] == [5, 6, 7]
  shares = [row['high_quality_share'] for row in result['seeds']]
  assert result['high_quality_share'] == pytest.approx(np.mean(shares))
  assert result['perfect_modes_covered'] == result['real_modes_covered'] == 8
  assert result['real_high_quality_share'] > 0.9
  assert result['modes_covered_standard_error'] >= 0
  assert result['provenance']['num_samples'] == 50


def test_evaluation_saves_the_points_that_it_scores(several, tmp_path):
  file = tmp_path / 'x.npz'
  arguments = [f'--workdir={several}', f'--save_samples={file}']
  assert evaluate.main(['', *arguments, '--num_samples=50']) == 0
  points = read(file, 'points')
  assert points.shape == (NUM_SEEDS, 50, 2)
  key = prng.stream(prng.root_key(0), 'evaluate')
  for index in range(NUM_SEEDS):
    sampler = sample.load(several, seed_index=index)
    np.testing.assert_array_equal(points[index], sampler.generate(key, 50))
  result = json.loads((several / 'evaluation.json').read_text())
  for row, each in zip(result['seeds'], points, strict=True):
    found = mode_coverage.coverage(each, WORLDS['ring'])
    assert found.high_quality_share == row['high_quality_share']
  assert result['provenance']['num_seeds'] == NUM_SEEDS


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--config.parallelism=pmap'], ['num_seeds', "'jit'"]),
    (['--config.num_seeds=0'], ['num_seeds', 'at least 1']),
    (['--config.seed=4294967295'], ['num_seeds', '2^32']),
    (['--config.model.name=dcgan'], ['model.name', 'pacgan or mlp']),
    (
      ['--config.dataset.name=digits'],
      ['model.name', 'dcgan or resnet or r3gan'],
    ),
    (['--config.dataset.flip=True'], ['dataset.flip', 'ring']),
    (['--config.model.kernel_size=5'], ['kernel_size', 'mlp', 'set it to 4']),
    (['--config.augmentation.cutout=True'], ['augmentation.cutout']),
    (['--init_from=RUN'], ['--init_from', 'num_seeds']),
    (
      ['--init_from=RUN', '--config.num_seeds=1'],
      ['--init_from', 'several runs'],
    ),
  ],
)
def test_contradictory_settings_are_refused(
  several, tmp_path, capsys, arguments, words
):
  arguments = [a.replace('RUN', str(several)) for a in arguments]
  workdir = tmp_path / 'run'
  status = main.main(
    ['', '--config=configs/ring.py:smoke', f'--workdir={workdir}', *arguments]
  )
  error = capsys.readouterr().err
  assert status == 2
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  for word in words:
    assert word in error
  assert not workdir.exists()


def test_impossible_requests_are_refused_early(
  several, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(generation, 'fixed_statistics', None)  # before any work
  cases = [('x.npz', ['--seed_index=3'], 'from 0 to 2'), ('x', [], '.npz')]
  for name, arguments, word in cases:
    assert run(sample, several, tmp_path / name, *arguments) == 2
    assert word in capsys.readouterr().err
  assert evaluate.main(['', f'--workdir={several}', '--split=all']) == 2
  assert 'train and test' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('name', 'arguments', 'words'),
  [
    ('x', [], ['--output', '2 seeds', '--seed_index']),
    (
      'x.png',
      ['--kind=interpolation'],
      ['--num_samples=5', 'multiple of 8', '--seed_index'],
    ),
  ],
)
def test_impossible_image_outputs_are_refused_early(
  tmp_path, smoke_config, capsys, name, arguments, words
):
  smoke_config.num_seeds = 2
  workdir = tmp_path / 'run'
  workdir_lib.create(workdir)  # without a checkpoint
  workdir_lib.write_config(workdir, smoke_config)
  assert run(sample, workdir, tmp_path / name, *arguments) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert all(word in error for word in words)
  assert not (tmp_path / name).exists()


def test_only_the_chosen_seed_is_loaded(several, monkeypatch):
  measured = []
  monkeypatch.setattr(
    generation, 'fixed_statistics', lambda *unused: measured.append(1)
  )
  assert sample.load(several, seed_index=1).seed == 6
  assert len(measured) == 1
