"""The command that draws the exact models: its files and its refusals."""

import errno
import os
import subprocess
import sys

from etils import epath
from matplotlib.figure import Figure
import PIL.Image
import pytest

from vae_flax import latent_variable_models
from vae_flax.latent_variable_models import FIGURES


def run(output, *arguments):
  return latent_variable_models.main(
    ['command', f'--output={output}', *arguments]
  )


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  """A folder with all the pictures."""
  folder = tmp_path_factory.mktemp('pictures') / 'new' / 'folder'
  assert run(folder) == 0
  return folder


@pytest.fixture
def blank(monkeypatch):
  """Draws nothing but empty pictures, quickly."""
  for name in FIGURES:
    monkeypatch.setitem(FIGURES, name, lambda key: Figure((1, 1)))


@pytest.fixture
def fails(capfd, tmp_path):
  """Asserts that the command fails as commands should, and writes nothing."""

  def contents():
    return {
      path: path.read_bytes() if path.is_file() else None
      for path in tmp_path.rglob('*')
    }

  def check(arguments, *words):
    before = contents()
    assert latent_variable_models.main(['command', *arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('error: ')
    assert captured.err.count('\n') == 1
    for word in words:
      assert word in captured.err
    assert contents() == before

  return check


@pytest.mark.parametrize('name', FIGURES)
def test_each_picture_shows_something(drawn, name):
  with PIL.Image.open(drawn / name) as image:
    assert image.format == 'PNG'
    assert image.width > 1_000
    assert image.height > 400
    colours = image.convert('RGB').getcolors(image.width * image.height)
  assert len(colours) > 100
  counts = {colour: count for count, colour in colours}
  white = counts[255, 255, 255] / sum(counts.values())
  assert 0.05 < white < 0.95


def test_nothing_else_is_written(drawn):
  assert {path.name for path in drawn.iterdir()} == set(FIGURES)


def test_pictures_depend_on_the_seed_alone(monkeypatch, tmp_path):
  monkeypatch.setattr(
    latent_variable_models, 'FIGURES', {'x.png': FIGURES['mixture.png']}
  )
  for folder, seed in (('a', 1), ('b', 1), ('c', 2)):
    assert run(tmp_path / folder, f'--seed={seed}') == 0
  a, b, c = ((tmp_path / f / 'x.png').read_bytes() for f in 'abc')
  assert a == b
  assert a != c


def test_files_written_are_printed_one_a_line(blank, capsys, tmp_path):
  (tmp_path / 'mixture.png').write_text('of an earlier run')
  assert run(tmp_path) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines == [str(tmp_path / name) for name in FIGURES]
  for line in lines:
    with PIL.Image.open(line) as image:
      assert image.format == 'PNG'


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    ([], ['--output', 'missing']),
    (['--output='], ['--output', 'missing']),
    (['--output=gs://bucket/x'], ['gs://bucket/x', 'this machine']),
    (['--output=FOLDER/x', '--seed=-1'], ['seed']),
    (['--output=FOLDER/x', '--seed=4294967296'], ['seed']),
    (['--output=FOLDER/x', '--seed=one'], ['seed', 'one']),
    (['--output=FOLDER/x', '--nosuch=1'], ['nosuch']),
    (['--output=FOLDER/x', 'stray'], ['stray']),
    (['--output=FOLDER/file'], ['FOLDER/file is a file']),
    (['--output=FOLDER/file/x'], ['FOLDER/file is a file']),
    (['--output=FOLDER/old'], ['FOLDER/old/elbo.png is a folder']),
    (['--output=FOLDER/broken'], ['FOLDER/broken']),
    (['--output=FOLDER/' + 'x' * 300], ['cannot be written to']),
  ],
)
def test_drawing_refuses(blank, fails, tmp_path, arguments, words):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'old' / 'elbo.png').mkdir(parents=True)
  (tmp_path / 'broken').symlink_to(tmp_path / 'nowhere' / 'at' / 'all')
  replace = [a.replace('FOLDER', str(tmp_path)) for a in arguments]
  fails(replace, *(word.replace('FOLDER', str(tmp_path)) for word in words))


def test_mistakes_are_found_before_anything_is_drawn(
  fails, monkeypatch, tmp_path
):
  def draw(key):
    raise AssertionError('drawn too early')

  for name in FIGURES:
    monkeypatch.setitem(FIGURES, name, draw)
  (tmp_path / 'file').write_text('')
  fails([f'--output={tmp_path}/file'], 'is a file')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_without_rights_is_refused(blank, fails, tmp_path):
  tmp_path.chmod(0o500)
  fails([f'--output={tmp_path}'], str(tmp_path), 'cannot be written to')


def test_a_full_disk_is_told_and_leaves_no_half_a_file(
  blank, fails, monkeypatch, tmp_path
):
  def write_bytes(path, data):
    path.touch()
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(type(epath.Path(tmp_path)), 'write_bytes', write_bytes)
  fails([f'--output={tmp_path}'], str(tmp_path), 'No space left')


def test_help_shows_the_flags_and_succeeds(capsys):
  assert latent_variable_models.main(['command', '--help']) == 0
  output = capsys.readouterr().out
  assert '--output' in output
  assert 'python -m vae_flax.latent_variable_models' in output


def test_command_exits_with_its_status():
  process = subprocess.run(
    [sys.executable, '-m', 'vae_flax.latent_variable_models', '--nosuch'],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert process.returncode == 2
  assert process.stderr.startswith('error: ')
  assert process.stderr.count('\n') == 1
