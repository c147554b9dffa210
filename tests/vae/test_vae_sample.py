"""Pictures and latents of a trained VAE, from the workdir alone."""

import shutil

from conftest import recipe
import jax
import numpy as np
import PIL.Image
import pytest

from common_flax import data
from common_flax.errors import UserError
from vae_flax import sample
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


def images_of(path):
  with np.load(path, allow_pickle=False) as file:
    return file['images']


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
  'z', [np.zeros((2, 3)), np.zeros(4), np.zeros((2, 4), int)]
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
