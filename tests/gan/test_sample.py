"""Sampling is reproducible, batch-independent, and needs only a workdir."""

import pathlib
import shutil

import jax
import numpy as np
import PIL.Image
import pytest

from common_flax import prng
from common_flax.errors import UserError
from common_flax.latents import slerp
from gan_flax import evaluate
from gan_flax import generation
from gan_flax import sample
from gan_flax.batches import draw_latents


@pytest.fixture(scope='module')
def sampler(trained):
  return sample.load(trained)


def run(trained, output, *arguments):
  return sample.main(
    ['sample', f'--workdir={trained}', f'--output={output}', *arguments]
  )


def arrays_of(path):
  with np.load(path, allow_pickle=False) as file:
    return dict(file)


def images_of(path):
  return arrays_of(path)['images']


def test_the_same_seed_gives_the_same_file(trained, tmp_path):
  for name in ('a', 'b'):
    assert run(trained, tmp_path / f'{name}.npz', '--num_samples=150') == 0
  assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()
  images = images_of(tmp_path / 'a.npz')
  assert images.shape == (150, 16, 16, 1)
  assert images.dtype == np.uint8
  assert len(np.unique(images, axis=0)) == 150


def test_another_seed_gives_other_samples(trained, tmp_path):
  run(trained, tmp_path / 'a.npz', '--num_samples=2')
  run(trained, tmp_path / 'b.npz', '--num_samples=2', '--seed=1')
  a, b = images_of(tmp_path / 'a.npz'), images_of(tmp_path / 'b.npz')
  assert not np.array_equal(a[0], b[0])


def test_a_sample_does_not_depend_on_how_many_are_drawn(trained, tmp_path):
  run(trained, tmp_path / 'few.npz', '--num_samples=3')
  run(trained, tmp_path / 'many.npz', '--num_samples=130')
  np.testing.assert_array_equal(
    images_of(tmp_path / 'few.npz'), images_of(tmp_path / 'many.npz')[:3]
  )


def test_grid_folder_and_npz_show_the_same_images(trained, tmp_path):
  for name in ('x.npz', 'x.png', 'folder'):
    assert run(trained, tmp_path / name, '--num_samples=5') == 0
  images = images_of(tmp_path / 'x.npz')
  files = sorted((tmp_path / 'folder').iterdir())
  assert [file.name for file in files] == [f'{i:06d}.png' for i in range(5)]
  for image, file in zip(images, files, strict=True):
    np.testing.assert_array_equal(
      np.asarray(PIL.Image.open(file)), image[..., 0]
    )
  grid = np.asarray(PIL.Image.open(tmp_path / 'x.png'))
  np.testing.assert_array_equal(grid[2:18, 2:18], images[0, ..., 0])
  np.testing.assert_array_equal(grid[20:36, 20:36], images[4, ..., 0])
  assert not list(tmp_path.glob('.*'))


def test_interpolation_goes_from_one_sample_to_another(trained, tmp_path):
  run(trained, tmp_path / 's.npz', '--num_samples=4')
  run(trained, tmp_path / 'i.npz', '--num_samples=16', '--kind=interpolation')
  ends, rows = images_of(tmp_path / 's.npz'), images_of(tmp_path / 'i.npz')
  close = dict(atol=1, rtol=0)  # the arc ends at a latent, up to rounding
  np.testing.assert_allclose(rows[[0, 7, 8, 15]].astype(int), ends, **close)
  assert not np.array_equal(rows[3], rows[0])


def test_noema_samples_from_the_last_weights(trained, tmp_path):
  run(trained, tmp_path / 'ema.npz', '--num_samples=2')
  run(trained, tmp_path / 'raw.npz', '--num_samples=2', '--noema')
  a, b = (images_of(tmp_path / f'{name}.npz') for name in ('ema', 'raw'))
  assert not np.array_equal(a, b)


def test_truncation_reduces_variety(sampler, trained, tmp_path):
  run(trained, tmp_path / 'x.npz', '--num_samples=20', '--truncation=0.01')
  run(trained, tmp_path / 'y.npz', '--num_samples=20')
  near, all_ = images_of(tmp_path / 'x.npz'), images_of(tmp_path / 'y.npz')
  assert near.std(axis=0).mean() < 0.2 * all_.std(axis=0).mean()


@pytest.mark.parametrize('limit', ['0', '-1', 'nan'])
def test_a_truncation_that_leaves_nothing_is_refused(
  trained, tmp_path, capsys, limit
):
  assert run(trained, tmp_path / 'x.npz', f'--truncation={limit}') == 2
  assert 'truncation' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_generate_matches_the_command(sampler, trained, tmp_path):
  run(trained, tmp_path / 'x.npz', '--num_samples=70')
  key = prng.stream(prng.root_key(0), 'sample')
  np.testing.assert_array_equal(
    sampler.generate(key, 70), images_of(tmp_path / 'x.npz')
  )
  assert sampler.step == 8


@pytest.mark.parametrize('kind', ['samples', 'interpolation'])
def test_the_latents_of_a_file_give_its_images(
  sampler, trained, tmp_path, kind
):
  """Bit for bit, also of those that are not at the beginning."""
  run(trained, tmp_path / 'x.npz', '--num_samples=70', f'--kind={kind}')
  first = arrays_of(tmp_path / 'x.npz')
  assert first['latents'].shape == (70, sampler.gan.latent_size)
  assert first['latents'].dtype == np.float32
  np.save(tmp_path / 'x.npy', first['latents'])
  for name in ('x.npz', 'x.npy'):
    given = f'--latents={tmp_path / name}'
    assert run(trained, tmp_path / 'y.npz', given) == 0
    again = arrays_of(tmp_path / 'y.npz')
    for key in ('images', 'latents'):
      np.testing.assert_array_equal(again[key], first[key])
  images = sampler.generate_from(first['latents'][61:66])
  np.testing.assert_array_equal(images, first['images'][61:66])


def test_a_seed_gives_sample_0_of_it(trained, tmp_path):
  assert run(trained, tmp_path / 'x.npz', '--seeds=3,0-66,3') == 0
  found = arrays_of(tmp_path / 'x.npz')
  assert len(found['images']) == 69
  for place, seed in ((0, 3), (1, 0), (66, 65), (68, 3)):
    run(trained, tmp_path / 'y.npz', f'--seed={seed}', '--num_samples=1')
    for name, array in arrays_of(tmp_path / 'y.npz').items():
      np.testing.assert_array_equal(found[name][place], array[0])


def test_a_walk_leads_from_seed_to_seed(sampler, trained, tmp_path):
  arguments = ['--kind=walk', '--seeds=1,5,9', '--frames=4']
  assert run(trained, tmp_path / 'x.npz', *arguments) == 0
  frames = arrays_of(tmp_path / 'x.npz')
  stops = sampler.latents_of_seeds([1, 5, 9])
  np.testing.assert_array_equal(frames['latents'][::4], stops)
  np.testing.assert_allclose(
    frames['latents'][2], slerp(stops[0], stops[1], 0.5), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_array_equal(
    frames['images'], sampler.generate_from(frames['latents'])
  )
  assert run(trained, tmp_path / 'x.webp', *arguments) == 0
  with PIL.Image.open(tmp_path / 'x.webp') as walk:
    assert walk.n_frames == 12
    for i, image in enumerate(frames['images']):
      walk.seek(i)
      shown = np.asarray(walk.convert('L'))[::16, ::16]
      np.testing.assert_array_equal(shown, image[..., 0])
  run(trained, tmp_path / 'x.png', *arguments)
  with PIL.Image.open(tmp_path / 'x.png') as grid:
    assert grid.size == (4 * 18 + 2, 3 * 18 + 2)  # a row for each leg


@pytest.mark.parametrize(
  'z',
  [np.ones((2, 3)), np.ones(100), np.ones((0, 100)), np.ones((2, 100), int)],
)
def test_generate_from_refuses_what_are_no_latents(sampler, z):
  with pytest.raises(UserError, match=r'^z: .*latents as floats \[N, 100\]'):
    sampler.generate_from(z)


def test_generate_can_be_compiled(sampler):
  key = jax.random.key(3)
  compiled = jax.jit(lambda key: sampler.generate(key, 3))(key)
  difference = compiled.astype(int) - sampler.generate(key, 3).astype(int)
  assert np.abs(difference).max() <= 1  # rounding may change a byte


def test_sampling_needs_only_the_generator(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '8' / 'state')
  assert run(workdir, tmp_path / 'x.npz', '--num_samples=2') == 0


def test_batch_statistics_belong_to_the_weights(sampler):
  """They are those of a large batch with the same parameters."""
  gan = sampler.gan
  latents = draw_latents(gan, jax.random.key(9), 4_000)
  wide = gan.generator.clone(norm_momentum=0.0)
  _, updates = jax.jit(
    lambda: wide.apply(
      {'params': sampler.params}, latents, train=True, mutable=['batch_stats']
    )
  )()
  for name, expected in updates['batch_stats'].items():
    actual = sampler.batch_stats[name]
    deviation = np.sqrt(expected['var'])
    assert (np.abs(actual['mean'] - expected['mean']) < 0.2 * deviation).all()
    np.testing.assert_allclose(actual['var'], expected['var'], rtol=0.3)


def test_evaluating_another_split_is_refused(trained, capsys, monkeypatch):
  monkeypatch.setattr(generation, 'fixed_statistics', None)  # before any work
  assert evaluate.main(['', f'--workdir={trained}', '--split=all']) == 2
  assert 'train and test' in capsys.readouterr().err


@pytest.mark.usefixtures('in_the_repository')
@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--output=x.png'], ['--workdir']),
    (['--workdir=nosuch', '--output=x.png'], ['nosuch']),
    (['--workdir=configs', '--output=x.png'], ['config.json']),
    (['--workdir=TRAINED'], ['--output']),
    (['--workdir=TRAINED', '--output='], ['--output']),
    (['--workdir=TRAINED', '--output=gs://x/y.npz'], ['gs://x/y.npz']),
    (['--workdir=TRAINED', '--output=x.png', '--num_samples=0'], ['num_samp']),
    (['--workdir=TRAINED', '--output=x.png', '--seed=-1'], ['seed']),
    (
      ['--workdir=TRAINED', '--output=x.png', '--kind=video'],
      ['kind', 'video'],
    ),
    (
      ['--workdir=TRAINED', '--output=x.png', '--label=3'],
      ['--label=3', 'not conditional', 'model.conditioning'],
    ),
    (['--workdir=TRAINED', '--output=x.png', '--label=-1'], ['label']),
    (
      ['--workdir=TRAINED', '--output=x.png', '--latents=setup.cfg'],
      ['--latents=setup.cfg', '.npz'],
    ),
    (
      ['--workdir=TRAINED', '--output=x.png', '--latents=x', '--truncation=1'],
      ['--truncation=1.0: has no effect with --latents'],
    ),
    (['--workdir=TRAINED', '--output=x.png', '--seeds=1,b'], ['--seeds=1,b']),
    (['--workdir=TRAINED', '--output=x.png', '--kind=walk'], ['--seeds']),
    (['--workdir=TRAINED', '--output=setup.cfg/x.png'], ['setup.cfg']),
    (['--workdir=TRAINED', '--output=setup.cfg/x.npz'], ['setup.cfg']),
    (['--workdir=TRAINED', '--output=setup.cfg'], ['setup.cfg']),
  ],
)
def test_sampling_refuses(refuses, trained, tmp_path, arguments, words):
  arguments = [a.replace('TRAINED', str(trained)) for a in arguments]
  refuses(sample.main, arguments, *words, folder=tmp_path)
  assert not pathlib.Path('x.png').exists()


def test_sampling_without_a_checkpoint_says_train_first(
  capfd, trained, tmp_path
):
  config = (trained / 'config.json').read_text()
  (tmp_path / 'config.json').write_text(config)
  status = sample.main(
    ['sample', f'--workdir={tmp_path}', f'--output={tmp_path}/x.png']
  )
  assert status == 2
  assert 'train first' in capfd.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']
