"""The search for pictures, and the command that runs it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import images as images_lib
from common_flax.explore import projection
from common_flax.explore.projection import Projector
from common_flax.explore.projection import Shell
from gan_flax import sample
from vae_flax import sample as vae_sample

SHAPE = (4, 4, 1)
SIZE = 3
MATRIX = np.random.default_rng(0).normal(size=(3, SIZE, 16)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Linear:
  """A generator of three classes, whose images are nearly linear in z."""

  def __call__(self, matrix, z, labels):
    if labels is None:
      labels = jnp.zeros(len(z), jnp.int32)
    flat = jnp.einsum('nz,nzf->nf', z, matrix[labels])
    return jnp.tanh(0.2 * flat).reshape(-1, *SHAPE)


def images_of(z, labels):
  numbers = None if labels is None else jnp.asarray(labels)
  return np.asarray(
    images_lib.from_signed(Linear()(MATRIX, jnp.asarray(z), numbers))
  )


def projector(num_classes=None, **changes):
  linear = Projector(Linear(), MATRIX, SIZE, Shell(), num_classes, images_of)
  return dataclasses.replace(linear, **changes)


def drawn(num, seed=0):
  return np.random.default_rng(seed).normal(size=(num, SIZE)).astype(np.float32)


def test_images_of_the_generator_are_found_again():
  z = drawn(6)
  found = projector().project(jax.random.key(0), images_of(z, None))
  np.testing.assert_allclose(found.latents, z, atol=0.05)
  assert found.psnr_db.min() > 40
  assert found.labels is None


def test_the_class_of_an_image_is_found_unless_it_is_given():
  labels = np.array([2, 0, 1])
  pictures = images_of(drawn(3), labels)
  search = projector(num_classes=3)
  found = search.project(jax.random.key(0), pictures)
  np.testing.assert_array_equal(found.labels, labels)
  of_one = search.project(jax.random.key(0), pictures, label=1)
  np.testing.assert_array_equal(of_one.labels, 1)
  assert of_one.psnr_db[2] > 40 > of_one.psnr_db[:2].max()


def test_given_starts_are_searched_from():
  pictures, starts = images_of(drawn(2), None), drawn(2)
  found = projector().project(
    jax.random.key(0), pictures, starts=starts, num_steps=1
  )
  assert found.psnr_db.min() > 25


@pytest.mark.parametrize('is_uniform', [False, True])
def test_latents_stay_where_the_prior_is(is_uniform):
  shell = Shell(is_uniform)
  far = shell.nearest(jnp.full((2, 100), 7.0))
  if is_uniform:
    assert np.abs(far).max() == 1
  else:
    assert 10 < np.linalg.norm(far, axis=1).max() < 13
    inner = shell.nearest(jnp.full((1, 100), 0.1))
    assert np.linalg.norm(inner) > 7
  inside = shell.draw(jax.random.key(0), (4, 100))
  np.testing.assert_allclose(shell.nearest(inside), inside, rtol=1e-6)


def test_errors_are_those_of_bytes():
  one = np.zeros((2, *SHAPE), np.uint8)
  other = one.copy()
  other[1] = 255
  psnr_db, rmse = projection.errors(one, other)
  np.testing.assert_array_equal(rmse, [0, 255])
  np.testing.assert_array_equal(psnr_db, [np.inf, 0])


def test_distances_are_zero_for_equal_images_of_any_size():
  for shape in ((1, 1, 1), (5, 3, 3), (16, 16, 1)):
    images = jax.random.normal(jax.random.key(0), (2, *shape))
    assert np.asarray(projection.distances(images, images)).max() == 0
    assert np.asarray(projection.distances(images, -images)).min() > 0


@pytest.fixture
def pictures(tmp_path):
  folder = tmp_path / 'pictures'
  folder.mkdir()
  for i in range(2):
    image = np.full((16, 16, 1), 90 * i, np.uint8)
    images_lib.write_png(folder / f'{i}.png', image)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('family', ['unconditional', 'conditional', 'vae'])
def test_found_latents_draw_the_projections_again(
  family, request, pictures, tmp_path, monkeypatch, capsys
):
  fixture = {
    'unconditional': 'trained',
    'conditional': 'trained_conditional',
    'vae': 'trained_vae',
  }[family]
  main = vae_sample.main if family == 'vae' else sample.main
  workdir = request.getfixturevalue(fixture)
  run = ['command', f'--workdir={workdir}']
  output = tmp_path / 'found.npz'
  given = ['--kind=projection', f'--images={pictures}']
  assert main([*run, *given, f'--output={output}']) == 0
  said = capsys.readouterr().out
  assert '0.png: PSNR' in said
  assert 'median PSNR' in said
  found = np.load(output)
  again = tmp_path / 'again.npz'
  assert main([*run, f'--latents={output}', f'--output={again}']) == 0
  np.testing.assert_array_equal(np.load(again)['images'], found['projections'])
  np.testing.assert_allclose(
    projection.errors(found['projections'], found['images'])[0],
    found['psnr_db'],
  )


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--kind=projection'], ['--kind=projection', '--images']),
    (['--images=x.png'], ['--images=x.png', '--kind=projection']),
    (['--kind=projection', '--images=no.png'], ['--images=no.png']),
    (
      ['--kind=projection', '--images=.', '--truncation=1'],
      ['--truncation=1'],
    ),
    (['--kind=projection', '--images=.', '--seeds=1'], ['--seeds=1']),
    (['--kind=projection', '--images=.', '--label=1'], ['label=1']),
  ],
)
def test_wrong_flags_of_a_search_are_refused(
  refuses, trained, tmp_path, arguments, words
):
  output = f'--output={tmp_path / "x.png"}'
  given = [f'--workdir={trained}', output, *arguments]
  refuses(sample.main, given, *words, folder=tmp_path)


def test_points_are_not_searched(refuses, tmp_path, trained_points):
  given = [f'--workdir={trained_points}', '--kind=projection', '--images=.']
  output = f'--output={tmp_path / "x.png"}'
  refuses(sample.main, [*given, output], 'draws points', folder=tmp_path)
