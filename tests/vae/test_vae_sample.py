"""Pictures and latents of a trained VAE, from the workdir alone."""

import shutil

from conftest import recipe
import jax
import numpy as np
import PIL.Image
import pytest

from common_flax import data
from common_flax.data.decode import decode
from common_flax.errors import UserError
from vae_flax import sample
from vae_flax.drawing import own
from vae_flax.train import train


@pytest.fixture(scope='module')
def vae(trained_vae):
  return sample.load(trained_vae)


@pytest.fixture(scope='module')
def plane(tmp_path_factory):
  """The workdir of a run with two latents."""
  config = recipe('vae.py', 'smoke')
  config.num_steps = 2
  config.model.latent_size = 2
  workdir = tmp_path_factory.mktemp('plane') / 'run'
  train(config, workdir)
  return workdir


def run(workdir, output, *arguments):
  return sample.main(
    ['sample', f'--workdir={workdir}', f'--output={output}', *arguments]
  )


def arrays_of(path):
  with np.load(path, allow_pickle=False) as file:
    return dict(file)


def images_of(path):
  return arrays_of(path)['images']


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
  """Three pictures of one's own, of sizes that the VAE does not know."""
  folder = tmp_path_factory.mktemp('pictures')
  random = np.random.default_rng(0)
  for name, shape in (('a.png', (20, 30, 3)), ('b.webp', (9, 9, 3))):
    pixels = random.integers(0, 256, shape, np.uint8)
    PIL.Image.fromarray(pixels).save(folder / name, lossless=True)
  PIL.Image.new('RGBA', (16, 16), (0, 0, 0, 0)).save(folder / 'c.png')
  return folder


@pytest.mark.parametrize(
  'kind', ['prior', 'reconstruction', 'interpolation', 'traversal']
)
def test_a_file_depends_on_the_seed_and_an_image_on_its_number(
  trained_vae, tmp_path, kind
):
  arguments = (f'--kind={kind}', '--num_samples=70')
  for name in ('a', 'b'):
    assert run(trained_vae, tmp_path / f'{name}.npz', *arguments) == 0
  assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()
  run(trained_vae, tmp_path / 'other.npz', *arguments, '--seed=1')
  run(trained_vae, tmp_path / 'few.npz', f'--kind={kind}', '--num_samples=3')
  images = images_of(tmp_path / 'a.npz')
  assert images.shape == (70, 16, 16, 1)
  assert images.dtype == np.uint8
  assert not np.array_equal(images, images_of(tmp_path / 'other.npz'))
  np.testing.assert_array_equal(images[:3], images_of(tmp_path / 'few.npz'))


@pytest.mark.parametrize('kind', ['prior', 'interpolation', 'traversal'])
def test_the_latents_of_a_file_give_its_images(
  vae, trained_vae, tmp_path, kind
):
  arguments = (f'--kind={kind}', '--num_samples=70')
  run(trained_vae, tmp_path / 'x.npz', *arguments)
  first = arrays_of(tmp_path / 'x.npz')
  assert first['latents'].shape == (70, 4)
  given = f'--latents={tmp_path}/x.npz'
  assert run(trained_vae, tmp_path / 'y.npz', given) == 0
  for name, array in arrays_of(tmp_path / 'y.npz').items():
    np.testing.assert_array_equal(array, first[name])
  images = vae.decode(first['latents'][61:66])
  np.testing.assert_array_equal(images, first['images'][61:66])


def test_a_seed_gives_image_0_of_it(trained_vae, tmp_path):
  assert run(trained_vae, tmp_path / 'x.npz', '--seeds=3,0-2') == 0
  found = arrays_of(tmp_path / 'x.npz')
  for place, seed in ((0, 3), (3, 2)):
    run(trained_vae, tmp_path / 'y.npz', f'--seed={seed}', '--num_samples=1')
    for name, array in arrays_of(tmp_path / 'y.npz').items():
      np.testing.assert_array_equal(found[name][place], array[0])


def test_own_pictures_stand_above_their_reconstructions(
  vae, trained_vae, pictures, tmp_path
):
  arguments = ('--kind=reconstruction', f'--images={pictures}')
  assert run(trained_vae, tmp_path / 'x.npz', *arguments) == 0
  found = arrays_of(tmp_path / 'x.npz')
  names = ['a.png', 'b.webp', 'c.png']
  assert found['name'].tolist() == names
  expected = [decode((pictures / x).read_bytes(), 16, 1) for x in names]
  np.testing.assert_array_equal(found['images'], expected)
  results = found['reconstructions']
  np.testing.assert_array_equal(results, vae.decode(found['latents']))
  run(trained_vae, tmp_path / 'x.png', *arguments)
  grid = np.asarray(PIL.Image.open(tmp_path / 'x.png'))
  assert grid.shape[0] == 2 * 18 + 2
  right = grid[:, -18:]
  np.testing.assert_array_equal(right[2:18, :16], found['images'][2, ..., 0])
  np.testing.assert_array_equal(right[20:36, :16], results[2, ..., 0])
  assert grid.shape[1] > 3 * 18 + 2 + 40  # the names of the rows


def test_more_own_pictures_than_a_format_can_hold_are_refused(tmp_path):
  images, output = np.zeros((6560, 8, 8, 1), np.uint8), tmp_path / 'x.webp'
  with pytest.raises(UserError, match=r'16,402 .*16,383.*FILE\.png'):
    own.write_reconstructions(str(output), None, images, None, [])
  assert not output.exists()


def test_own_pictures_have_latents_with_their_names(
  trained_vae, pictures, tmp_path
):
  for images in (pictures, pictures / 'b.webp'):
    for name in ('x.npz', 'x.csv'):
      arguments = ('--kind=latents', f'--images={images}')
      assert run(trained_vae, tmp_path / name, *arguments) == 0
    arrays = arrays_of(tmp_path / 'x.npz')
    assert set(arrays) == {'name', 'mean', 'log_var'}
    header, *lines = (tmp_path / 'x.csv').read_text().splitlines()
    assert header.split(',')[:3] == ['name', 'mean_0', 'mean_1']
    assert [line.split(',')[0] for line in lines] == arrays['name'].tolist()
    numbers = np.array([line.split(',')[1:] for line in lines], np.float32)
    expected = np.concatenate([arrays['mean'], arrays['log_var']], axis=1)
    np.testing.assert_array_equal(numbers, expected)
  assert arrays['name'].tolist() == ['b.webp']


def test_paths_lead_from_own_picture_to_picture(
  vae, trained_vae, pictures, tmp_path
):
  own = f'--images={pictures}'
  run(trained_vae, tmp_path / 'x.npz', '--kind=latents', own)
  means = arrays_of(tmp_path / 'x.npz')['mean']
  assert run(trained_vae, tmp_path / 'y.npz', '--kind=interpolation', own) == 0
  rows = arrays_of(tmp_path / 'y.npz')['latents'].reshape(2, 8, 4)
  close = dict(rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(rows[:, 0], means[:2], **close)
  np.testing.assert_allclose(rows[:, 7], means[1:], **close)
  walk = ('--kind=walk', own, '--frames=5', '--noloop')
  assert run(trained_vae, tmp_path / 'z.npz', *walk) == 0
  frames = arrays_of(tmp_path / 'z.npz')
  np.testing.assert_array_equal(frames['latents'][::5], means)
  np.testing.assert_array_equal(frames['images'], vae.decode(frames['latents']))
  assert run(trained_vae, tmp_path / 'z.gif', *walk) == 0
  with PIL.Image.open(tmp_path / 'z.gif') as animation:
    assert 1 < animation.n_frames <= 11  # equal ones are shown for longer


@pytest.mark.parametrize(
  ('kind', 'output', 'images', 'words'),
  [
    ('reconstruction', 'x.npz', 'nosuch', '--images=nosuch: there is no such'),
    ('reconstruction', 'x.npz', '', '--images: is empty'),
    ('reconstruction', 'x.gif', 'PICTURES', 'files in .gif are not written'),
    ('interpolation', 'x.png', 'PICTURES/a.png', 'a.png: leads nowhere'),
    ('walk', 'x.png', 'PICTURES/a.png', 'a.png: leads nowhere'),
    ('latents', 'x.npz', 'EMPTY', 'contains no images'),
    ('latents', 'x.npz', 'EMPTY/text.png', 'text.png: cannot be decoded'),
  ],
)
def test_other_pictures_are_refused(
  refuses, trained_vae, pictures, tmp_path, kind, output, images, words
):
  (tmp_path / 'empty').mkdir()
  if images.endswith('text.png'):
    (tmp_path / 'empty' / 'text.png').write_text('text')
  images = images.replace('PICTURES', str(pictures))
  images = images.replace('EMPTY', f'{tmp_path}/empty')
  arguments = [f'--workdir={trained_vae}', f'--output={tmp_path}/{output}']
  arguments += [f'--kind={kind}', f'--images={images}']
  refuses(sample.main, arguments, words, folder=tmp_path)


def test_reconstructions_follow_images_of_the_split(trained_vae, tmp_path):
  run(trained_vae, tmp_path / 'x.npz', '--kind=reconstruction')
  images = images_of(tmp_path / 'x.npz')
  originals = images[::2]
  # Drawn binary images of the test digits: black where these are black.
  assert set(np.unique(originals)) == {0, 255}
  test = data.load_source('digits', 'test', 16).examples
  for original in originals[:5]:
    assert ((test > 0) | (original == 0)).all((1, 2, 3)).any()
  assert not np.array_equal(images[1::2], originals)


def test_a_traversal_moves_one_latent_a_row(vae, trained_vae, tmp_path):
  run(trained_vae, tmp_path / 'x.npz', '--kind=traversal', '--num_samples=32')
  rows = images_of(tmp_path / 'x.npz').reshape(4, 8, -1)
  assert all(len(np.unique(row, axis=0)) == 8 for row in rows)


@pytest.mark.slow
def test_a_manifold_is_a_square(plane, tmp_path):
  assert run(plane, tmp_path / 'x.npz', '--kind=manifold') == 0
  assert images_of(tmp_path / 'x.npz').shape == (64, 16, 16, 1)
  run(plane, tmp_path / 'x.png', '--kind=manifold', '--num_samples=25')
  with PIL.Image.open(tmp_path / 'x.png') as grid:
    assert grid.size == (5 * 18 + 2, 5 * 18 + 2)


def test_latents_are_those_of_the_split_in_its_order(vae, plane, tmp_path):
  assert run(plane, tmp_path / 'x.npz', '--kind=latents') == 0
  with np.load(tmp_path / 'x.npz', allow_pickle=False) as file:
    arrays = dict(file)
  assert {name: a.shape for name, a in arrays.items()} == {
    'mean': (297, 2),
    'log_var': (297, 2),
    'label': (297,),
    'class_names': (10,),
  }
  labels = data.load_source('digits', 'test', 16).labels
  np.testing.assert_array_equal(arrays['label'], labels)
  assert run(plane, tmp_path / 'x.png', '--kind=latents') == 0
  with PIL.Image.open(tmp_path / 'x.png') as picture:
    assert len(picture.getcolors(2**24)) > 100


def test_generate_encode_and_decode_from_python(vae, trained_vae, tmp_path):
  images = vae.generate(jax.random.key(0), 5)
  assert images.shape == (5, 16, 16, 1)
  np.testing.assert_array_equal(images[:2], vae.generate(jax.random.key(0), 2))
  mean, log_var = vae.encode(jax.random.key(1), images)
  assert mean.shape == log_var.shape == (5, 4)
  assert vae.decode(mean).dtype == np.uint8
  assert vae.step == 8


@pytest.mark.parametrize(
  ('images', 'words'),
  [
    (np.zeros((2, 16, 16, 1)), 'float64; give an array of uint8'),
    (np.zeros((2, 16, 16, 1), np.float32), 'float32; .* range .* unknown'),
    (np.zeros((2, 16, 16, 1), np.int32), 'int32; give an array of uint8'),
    (np.zeros((2, 16, 16, 1), bool), 'bool; give an array of uint8'),
    ([[[[0.5]]]], 'list; give an array of uint8'),
    (np.zeros((2, 16, 16, 3), np.uint8), r'\[2, 16, 16, 3\]; .* \[16, 16, 1\]'),
    (np.zeros((16, 16, 1), np.uint8), r'\[16, 16, 1\]; give \[N, H, W, C\]'),
  ],
)
def test_encode_refuses_what_is_no_image_of_bytes(vae, images, words):
  with pytest.raises(UserError, match=f'^images: .*{words}'):
    vae.encode(jax.random.key(0), images)


@pytest.mark.parametrize(
  'z', [np.ones((2, 3)), np.ones(4), np.ones((0, 4)), np.ones((2, 4), int)]
)
def test_decode_refuses_what_are_no_latents(vae, z):
  with pytest.raises(UserError, match=r'^z: .*give latents as floats \[N, 4\]'):
    vae.decode(z)


def test_generate_refuses_to_draw_nothing(vae):
  with pytest.raises(UserError, match='num=0'):
    vae.generate(jax.random.key(0), 0)


def test_sampling_needs_the_networks_alone(trained_vae, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained_vae, workdir)
  shutil.rmtree(workdir / 'checkpoints' / '8' / 'state')
  assert run(workdir, tmp_path / 'x.npz', '--num_samples=2') == 0
