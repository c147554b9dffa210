"""What an installation brings: packages, recipes, scripts, types."""

import ast
import configparser
import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

from conftest import CONFIGS
from conftest import HASTY_COMPILER
from conftest import ROOT
import pytest

import common_flax
from common_flax.cli import scripts
import gan_flax
import vae_flax
import vq_flax

PACKAGES = ('common_flax', 'gan_flax', 'vae_flax', 'vq_flax')
VERSION = f'gan_vae_flax {common_flax.__version__}\n'
_SETUP = configparser.ConfigParser()
_SETUP.read(ROOT / 'setup.cfg')


def lines(section, option):
  text = _SETUP[section][option]
  return [line for line in text.split('\n') if line and line[0] != '#']


SCRIPTS = dict(
  line.split(' = ') for line in lines('options.entry_points', 'console_scripts')
)
COMMANDS = sorted(
  '.'.join(file.relative_to(ROOT).with_suffix('').parts)
  for package in PACKAGES
  for file in (ROOT / package).rglob('*.py')
  if "if __name__ == '__main__':" in file.read_text()
)


def test_every_package_is_installed():
  folders = [
    file.parent.relative_to(ROOT)
    for package in PACKAGES
    for file in (ROOT / package).rglob('__init__.py')
  ]
  names = {'.'.join(folder.parts) for folder in folders}
  assert set(lines('options', 'packages')) == names | {'common_flax.configs'}
  assert lines('options', 'package_dir') == ['common_flax.configs = configs']


def test_there_is_one_version():
  assert re.fullmatch(r'\d+\.\d+\.\d+', common_flax.__version__)
  for package in (gan_flax, vae_flax, vq_flax):
    assert package.__version__ == common_flax.__version__
  changelog = (ROOT / 'CHANGELOG.md').read_text()
  assert f'## {common_flax.__version__}' in changelog


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_script_prints_the_version(capsys, monkeypatch, script):
  module, function = SCRIPTS[script].split(':')
  monkeypatch.setattr(sys, 'argv', [script, '--version'])
  assert getattr(importlib.import_module(module), function)() == 0
  assert capsys.readouterr().out == VERSION


@pytest.mark.parametrize('module', COMMANDS)
def test_a_command_prints_the_version(capsys, module):
  command = importlib.import_module(module)
  assert command.main(['command', '--version']) == 0
  assert capsys.readouterr().out == VERSION


@pytest.mark.parametrize('script', ['gan-sample', 'vae-evaluate'])
def test_a_script_runs_its_command(capfd, monkeypatch, script):
  module, function = SCRIPTS[script].split(':')
  monkeypatch.setattr(sys, 'argv', [script, '--nosuch'])
  assert getattr(importlib.import_module(module), function)() == 2
  assert 'nosuch' in capfd.readouterr().err


def test_hints_name_the_command_that_was_called():
  names = {'python -m a.main': 'a-train', 'python -m a.sample': 'a-sample'}
  hint = 'python -m a.sample --workdir=x'
  for called in ('a-train', '/bin/a-train', 'a-train.exe'):
    assert scripts.as_called([called], hint, names) == 'a-sample --workdir=x'
  for called in ('/x/a/main.py', 'command'):
    assert scripts.as_called([called], hint, names) == hint


def public_functions(node, prefix=''):
  """The functions and methods of a module that others may call."""
  for child in node.body:
    name = getattr(child, 'name', '_')
    if isinstance(child, ast.ClassDef) and name[0] != '_':
      yield from public_functions(child, f'{prefix}{name}.')
    elif isinstance(child, ast.FunctionDef):
      if name[0] != '_' or name in ('__init__', '__call__'):
        yield f'{prefix}{name}', child


@pytest.mark.parametrize('package', PACKAGES)
def test_public_functions_say_their_types(package):
  assert (ROOT / package / 'py.typed').is_file()
  untyped = []
  for file in sorted((ROOT / package).rglob('*.py')):
    for name, function in public_functions(ast.parse(file.read_text())):
      arguments = function.args
      every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *filter(None, (arguments.vararg, arguments.kwarg)),
      ]
      is_typed = function.returns or name.endswith('__init__')
      is_typed = is_typed and all(
        each.annotation or each.arg in ('self', 'cls') for each in every
      )
      if not is_typed:
        untyped.append(f'{file.relative_to(ROOT)}: {name}')
  assert not untyped


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
  """An sdist, the wheel made of it, and the folder that it is installed in."""
  folder = tmp_path_factory.mktemp('installed')
  source = folder / 'source'  # setuptools writes beside what it builds
  shutil.copytree(
    ROOT,
    source,
    ignore=shutil.ignore_patterns(
      '.git', '__pycache__', '.venv*', '*.egg-info', 'build', 'runs', '.*_cache'
    ),
  )

  def run(*arguments, cwd):
    process = subprocess.run(
      [sys.executable, *arguments],
      cwd=cwd,
      capture_output=True,
      text=True,
      check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout

  build = 'import setuptools.build_meta as b; print(b.build_sdist(".."))'
  name = run('-c', build, cwd=source).split()[-1]
  with tarfile.open(folder / name) as archive:
    archive.extractall(folder, filter='data')
  unpacked = folder / name.removesuffix('.tar.gz')
  offline = ('--no-deps', '--no-index', '--disable-pip-version-check')
  pip = ('-m', 'pip', '--quiet')
  run(
    *pip, 'wheel', '.', *offline, '--no-build-isolation', '-w..', cwd=unpacked
  )
  (wheel,) = folder.glob('*.whl')
  target = folder / 'target'
  run(*pip, 'install', wheel, *offline, '--target', target, cwd=folder)
  shutil.rmtree(source)
  return unpacked, wheel, target


@pytest.mark.slow
def test_an_sdist_can_be_tested(installed):
  unpacked, _, _ = installed
  for name in (
    'LICENSE',
    'CHANGELOG.md',
    '.ci/run',
    'configs/quick.py',
    'docs/python.md',
    'examples/autoencoder.py',
    'tests/conftest.py',
    'tests/older_runs/gan.tar.xz',
    'launch/Dockerfile',
    'benchmarks/quality.py',
  ):
    assert (unpacked / name).is_file(), name
  assert not [*unpacked.rglob('*.pyc')]


@pytest.mark.slow
def test_a_wheel_holds_the_packages_and_the_recipes(installed):
  _, wheel, _ = installed
  names = set(zipfile.ZipFile(wheel).namelist())
  tops = {name.split('/')[0] for name in names}
  assert {top for top in tops if 'dist-info' not in top} == set(PACKAGES)
  modules = {
    str(file.relative_to(ROOT))
    for package in PACKAGES
    for file in (ROOT / package).rglob('*.py')
  }
  recipes = {
    f'common_flax/configs/{file.name}' for file in CONFIGS.glob('*.py')
  }
  typed = {f'{package}/py.typed' for package in PACKAGES}
  pages = {
    f'common_flax/report/{file.name}'
    for file in (ROOT / 'common_flax/report').iterdir()
    if file.suffix in ('.css', '.js', '.txt')
  }
  inside = {name for name in names if 'dist-info' not in name}
  assert inside == modules | recipes | typed | pages
  assert len(pages) == 5
  assert any(name.endswith('licenses/LICENSE') for name in names)


@pytest.mark.slow
def test_an_installed_wheel_trains_and_samples_anywhere(installed, tmp_path):
  _, _, target = installed
  environment = {
    **os.environ,
    'PYTHONPATH': str(target),
    'PYTHONSAFEPATH': '1',
    'XLA_FLAGS': HASTY_COMPILER,
  }

  def run(*command):
    process = subprocess.run(
      [sys.executable, *command],
      cwd=tmp_path,
      env=environment,
      capture_output=True,
      text=True,
      check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout

  code = 'import common_flax as c, gan_flax as g; print(c.__file__, g.__file__)'
  for file in run('-c', code).split():
    assert pathlib.Path(file).is_relative_to(target)
  said = run(target / 'bin/gan-train', '--config=dcgan:smoke')
  assert 'To draw samples: gan-sample --workdir=runs/dcgan_smoke' in said
  arguments = ('--workdir=runs/dcgan_smoke', '--num_samples=2')
  run('-m', 'gan_flax.sample', *arguments, '--output=two.png')
  assert (tmp_path / 'two.png').is_file()
  assert 'dcgan:smoke' in run(target / 'bin/gan-train', '--list')
