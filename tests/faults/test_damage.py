"""Checkpoints with files that are cut short, changed or missing."""

import shutil

from conftest import POINTS_RUN
from conftest import saved_steps
import pytest
from saved_arrays import differences

from gan_flax import main

# TensorStore may report an unreadable file some time later.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)
# Files that a state is read from, among them a database of arrays.
FILES = (
  'state/_METADATA',
  'state/manifest.ocdbt',
  'state/d/*',
  'info/metadata',
)


def cut(path):
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])


def change_a_bit(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(bytes(data))


def empty(path):
  path.write_bytes(b'')


def remove(path):
  path.unlink()


def run(workdir, num_steps, **changes):
  """Trains by the command, and returns its exit status."""
  changes = {
    **POINTS_RUN,
    'num_steps': num_steps,
    'log_every_steps': 2,
  } | changes
  fields = (f'--config.{name}={value}' for name, value in changes.items())
  recipe = '--config=configs/ring.py:smoke'
  return main.main(['', recipe, f'--workdir={workdir}', *fields])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A finished run, and the same run trained further; read-only."""
  folder = tmp_path_factory.mktemp('whole')
  assert run(folder / 'run', 8) == 0
  shutil.copytree(folder / 'run', folder / 'further')
  assert run(folder / 'further', 10) == 0
  return folder


@pytest.fixture
def workdir(whole, tmp_path):
  """A copy of the finished run."""
  shutil.copytree(whole / 'run', tmp_path / 'run')
  return tmp_path / 'run'


def parts(workdir, step, pattern):
  found = list((workdir / 'checkpoints' / str(step)).glob(pattern))
  assert found
  return found


CASES = [
  (pattern, damage)
  for pattern in FILES
  for damage in (cut, change_a_bit, empty, remove)
]


@pytest.mark.parametrize(
  ('pattern', 'damage'),
  [
    pytest.param(
      *case, marks=() if case[1] is change_a_bit else pytest.mark.slow
    )
    for case in CASES
  ],
)
def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(
  whole, workdir, capsys, pattern, damage
):
  for path in parts(workdir, 8, pattern):
    damage(path)
  assert run(workdir, 10) == 0
  output = capsys.readouterr().out
  assert 'Checkpoint 8 cannot be read (' in output
  assert f'Resuming from step 6 in {workdir}.' in output
  assert (workdir / 'checkpoints_discarded' / '8').is_dir()
  assert differences(workdir, whole / 'further', 10) == []


def test_only_damaged_checkpoints_are_an_error(workdir, capsys):
  for step in saved_steps(workdir):
    for path in parts(workdir, step, 'state/d/*'):
      change_a_bit(path)
  capsys.readouterr()
  assert run(workdir, 10) == 2
  error = capsys.readouterr().err
  assert 'none of its checkpoints can be read' in error
  assert error.count('\n') == 1
  assert saved_steps(workdir) == [4, 6, 8]  # as evidence


def test_a_checkpoint_of_other_shapes_is_an_error(workdir, capsys):
  """config.json was edited by hand."""
  path = workdir / 'config.json'
  path.write_text(
    path.read_text().replace('"base_features": 4', '"base_features": 16')
  )
  assert run(workdir, 10, **{'model.base_features': 16}) == 2
  error = capsys.readouterr().err
  assert 'none of its checkpoints can be read' in error
  assert error.count('\n') == 1
