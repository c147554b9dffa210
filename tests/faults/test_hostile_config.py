"""Hostile values of config fields: a run starts or is refused in one line."""

import pathlib
import random

from conftest import ROOT
import pytest

from common_flax import config as config_lib
from gan_flax import main as gan_main
from vae_flax import main as vae_main

pytestmark = pytest.mark.usefixtures('in_the_repository')

RECIPES = {
  'configs/dcgan.py:smoke': gan_main.main,
  'configs/vae.py:smoke': vae_main.main,
}
FIELDS = [
  (spec, field)
  for spec in RECIPES
  for field in config_lib.flatten(config_lib.load(str(ROOT / spec)))
]
VALUES = (
  '',
  '-1',
  '0',
  '1.5',
  '1e-400',
  str(10**12),
  str(2**63),
  str(2**31 - 8),
  'nan',
  'inf',
  '-inf',
  'None',
  'True',
  '()',
  '(1e400,)',
  '[[[',
  'x' * 100_000,
  'é漢\u202e',
  'a\nb',
  'a\0b',
  '$(touch x)',
  '; touch x',
  '../../etc/passwd',
  '~nobody_of_that_name/x',
)


@pytest.fixture
def start(untrained, capfd, tmp_path):
  """Starts a run up to its first step; returns its exit status and stderr."""

  def run(spec, *arguments, workdir=tmp_path / 'run'):
    status = RECIPES[spec](
      ['command', f'--config={spec}', f'--workdir={workdir}', *arguments]
    )
    return status, capfd.readouterr().err

  return run


def assert_refused(status, error, *words):
  """Exit status 2, and one line on stderr, not too long, with these words."""
  assert status == 2, error
  assert error.startswith('error: ')
  assert error.endswith('\n')
  assert error[:-1].isprintable()
  assert len(error) < 2000
  for word in words:
    assert word in error


def assert_starts_or_is_refused(start, spec, field, value, workdir):
  status, error = start(spec, f'--config.{field}={value}', workdir=workdir)
  if status:
    assert_refused(status, error)
    assert 'config.' in error or 'data set' in error
    assert not workdir.exists()
  else:
    assert not error
    assert (workdir / 'config.json').exists()
  assert not pathlib.Path('x').exists()


@pytest.mark.parametrize(('spec', 'field'), FIELDS)
def test_a_hostile_value_starts_or_is_refused(start, tmp_path, spec, field):
  value = random.Random(spec + field).choice(VALUES)
  assert_starts_or_is_refused(start, spec, field, value, tmp_path / 'run')


@pytest.mark.slow
@pytest.mark.parametrize('offset', range(1, 4))
@pytest.mark.parametrize(('spec', 'field'), FIELDS)
def test_more_hostile_values_start_or_are_refused(
  start, tmp_path, spec, field, offset
):
  """Three values for each field, others for the next field."""
  first = FIELDS.index((spec, field))
  value = VALUES[(first + 3 * offset) % len(VALUES)]
  assert_starts_or_is_refused(start, spec, field, value, tmp_path / 'run')


@pytest.mark.parametrize(
  ('spec', 'arguments', 'words'),
  [
    (
      0,
      ['model.base_features=60000'],
      ['config.model.base_features=60000', 'GiB'],
    ),
    (0, ['model.latent_size=100000'], ['latent_size', '65,536']),
    (0, ['batch_size=2147483640'], ['batch_size', 'GiB']),
    (
      0,
      ['batch_size=400000000', 'model.packing=2', 'discriminator_steps=2'],
      ['batch_size', 'GiB'],
    ),
    (0, ['discriminator_steps=100000'], ['discriminator_steps', '65,536']),
    (0, ['num_seeds=1000000'], ['num_seeds', '4,096']),
    (0, ['num_steps=4294967296'], ['num_steps', '2,147,483,647']),
    (0, ['dataset.image_size=8192'], ['image_size', '4,096']),
    (1, ['model.hidden_sizes=(10000000000,)'], ['hidden_sizes', '65,536']),
    (1, ['num_importance_samples=100000000'], ['importance', '1,000,000']),
  ],
)
def test_sizes_that_no_machine_holds_are_refused(
  start, tmp_path, spec, arguments, words
):
  spec = list(RECIPES)[spec]
  overrides = [f'--config.{argument}' for argument in arguments]
  assert_refused(*start(spec, *overrides), *words)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'name',
  ['a\nb', 'x' * 300, 'x/' * 3000, 'a\0b', '~nobody_of_that_name/x', '-'],
)
@pytest.mark.parametrize(
  ('flag', 'more'),
  [
    ('config', []),
    ('init_from', []),
    ('config.dataset.path', ['--config.dataset.name=folder']),
    ('config.dataset.data_dir', ['--config.dataset.name=mnist']),
  ],
)
def test_an_impossible_path_is_refused(start, tmp_path, flag, more, name):
  status, error = start('configs/dcgan.py:smoke', *more, f'--{flag}={name}')
  assert_refused(status, error)
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'name', ['x' * 300, pytest.param('x/' * 3000, marks=pytest.mark.slow)]
)
def test_an_impossible_workdir_is_refused(start, tmp_path, name):
  status, error = start('configs/dcgan.py:smoke', workdir=tmp_path / name)
  assert_refused(status, error, '--workdir')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'name', ['a\nb', '$(touch x)', '; touch x', ' ', 'é漢']
)
def test_a_workdir_with_an_odd_name_is_made(start, tmp_path, name):
  assert start('configs/dcgan.py:smoke', workdir=tmp_path / name) == (0, '')
  assert [path.name for path in tmp_path.iterdir()] == [name]
