"""Recipes by name: what is shipped, what is found, what --list prints."""

import subprocess
import sys

from conftest import CONFIGS
from conftest import ROOT
import pytest
from test_configs import GAN_RECIPES
from test_configs import PRIOR_RECIPES
from test_configs import VAE_RECIPES
from test_configs import VQ_RECIPES

from common_flax import config as config_lib
from common_flax import recipes
from common_flax.cli import training_command
from common_flax.errors import UserError
from gan_flax import main as gan_main
from vae_flax import main as vae_main
from vq_flax import main as vq_main
from vq_flax.prior import __main__ as prior_main


def test_a_name_means_the_shipped_recipe_in_any_folder(tmp_path, monkeypatch):
  (tmp_path / 'dcgan').mkdir()
  monkeypatch.chdir(tmp_path)
  named = config_lib.load('dcgan:mnist')
  filed = config_lib.load(f'{CONFIGS}/dcgan.py:mnist')
  assert config_lib.flatten(named) == config_lib.flatten(filed)
  assert named.dataset.name == 'mnist'


def test_a_file_is_taken_where_it_lies(tmp_path, monkeypatch):
  for name in ('mine', 'dcgan'):
    (tmp_path / name).write_text('def get_config(): raise ValueError("mine")')
  monkeypatch.chdir(tmp_path)
  for spec in ('mine', './dcgan', f'{tmp_path}/dcgan'):
    with pytest.raises(UserError, match='mine'):
      config_lib.load(spec)
  assert config_lib.load('dcgan:smoke').num_steps == 8


@pytest.mark.parametrize(
  ('spec', 'words'),
  [
    ('dcgna:smoke', ['no recipe of this name', '--config=dcgan:smoke']),
    ('zebra', ['no recipe of this name', 'quick', 'vae_burda', 'FILE.py']),
    ('configs/dcgan.py:mnist', ['no file configs/dcgan.py', '=dcgan:mnist?']),
    ('nosuch.py', ['no file nosuch.py', 'path']),
    ('dcgan:minst', ['no variant', 'mnist']),
    (':smoke', ['no recipe of this name']),
  ],
)
def test_what_does_not_exist_is_named(tmp_path, monkeypatch, spec, words):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=f'^--config={spec}: ') as raised:
    config_lib.load(spec)
  for word in words:
    assert word in str(raised.value)
  assert '\n' not in str(raised.value)


def test_a_recipe_of_the_other_family_is_refused(tmp_path, refuses):
  for main, spec in ((gan_main.main, 'vae'), (vae_main.main, 'dcgan:smoke')):
    words = (f'--config={spec}: ', '_flax.main`')
    refuses(main, [f'--config={spec}'], *words, folder=tmp_path)


@pytest.mark.parametrize(
  ('spec', 'workdir'),
  [
    ('dcgan', 'runs/dcgan'),
    ('dcgan:mnist', 'runs/dcgan_mnist'),
    ('configs/dcgan.py:mnist', 'runs/dcgan_mnist'),
  ],
)
def test_the_default_workdir_has_the_name_of_the_recipe(spec, workdir):
  assert training_command.default_workdir(spec) == workdir


def test_docstrings_list_the_variants_that_there_are():
  documented = {
    (path.name, variant)
    for path in recipes.shipped().values()
    for variant in recipes.read(path).variants
  }
  assert documented == {
    *GAN_RECIPES,
    *VAE_RECIPES,
    *VQ_RECIPES,
    *PRIOR_RECIPES,
  }


@pytest.mark.parametrize('name', sorted(recipes.shipped().keys() - {'grid'}))
def test_docstrings_list_all_variants_in_the_code(name):
  with pytest.raises(UserError, match='choose one of') as raised:
    config_lib.load(f'{name}:nosuch')
  known = str(raised.value).rpartition('choose one of ')[2].split(', ')
  variants = recipes.read(recipes.shipped()[name]).variants
  assert {'', *known} == variants.keys()


@pytest.mark.parametrize(
  ('main', 'own'),
  [
    (gan_main.main, GAN_RECIPES),
    (vae_main.main, VAE_RECIPES),
    (vq_main.main, VQ_RECIPES),
    (prior_main.main, PRIOR_RECIPES),
  ],
)
def test_the_list_has_a_line_for_each_variant_of_the_family(capsys, main, own):
  assert main(['command', '--list']) == 0
  lines = capsys.readouterr().out.splitlines()
  specs = [line.split()[0] for line in lines if line.startswith('  ')]
  assert set(specs) == {f'{n[:-3]}:{v}'.rstrip(':') for n, v in own}
  assert len(specs) == len(own)


def test_the_list_fits_a_terminal():
  text = recipes.listing('python -m gan_flax.main', 80)
  assert max(map(len, text.splitlines())) <= 80
  assert '  dcgan:cifar10  TFDS cifar10, for a GPU\n' in text
  whole = recipes.listing('python -m gan_flax.main')
  assert ' ...\n' in text
  assert ' ...\n' not in whole
  assert 'quick:mnist   TFDS mnist at 28x28, padded to 32x32' in whole


@pytest.mark.slow
@pytest.mark.parametrize('flag', ['--list', '--version'])
def test_the_list_and_the_version_do_not_wait_for_jax(tmp_path, flag):
  (tmp_path / 'jax.py').write_text('raise AssertionError')
  code = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
from vae_flax import main
sys.exit(main.main(['vae-train', {flag!r}]))
"""
  process = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, check=False
  )
  assert (process.returncode, process.stderr) == (0, b'')
