"""Disks that fail while a run trains."""

import os
import subprocess
import sys

from conftest import assert_same_end
from conftest import HASTY_COMPILER
from conftest import LEAN
from conftest import POINTS_RUN
from conftest import read_metrics
from conftest import ROOT
from conftest import saved_steps
import pytest

pytestmark = pytest.mark.slow

CHANGES = {**POINTS_RUN, 'log_every_steps': 2, 'keep_checkpoints': 10}


@pytest.fixture
def disk(tmp_path):
  """A file system of 4 MiB."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', folder]
  if subprocess.run(mount, check=False, capture_output=True).returncode:
    pytest.skip('only some users may mount a file system')
  yield folder
  subprocess.run(['umount', '--recursive', folder], check=True)


def run(disk, kind, *arguments):
  """Trains on a disk that fails as `kind` says; 'none' for a good disk."""
  changes = (f'--config.{name}={value}' for name, value in CHANGES.items())
  program = ['tests/faults/failing_disk.py', kind, str(disk)]
  if kind == 'none':
    program = ['-m', 'gan_flax.main']
  return subprocess.run(
    [
      sys.executable,
      *program,
      '--config=configs/ring.py:smoke',
      f'--workdir={disk}/run',
      *changes,
      *arguments,
    ],
    check=False,
    capture_output=True,
    text=True,
    cwd=ROOT,
    env={
      **os.environ,
      'PYTHONPATH': f'{LEAN}:{ROOT}',
      'XLA_FLAGS': HASTY_COMPILER,
    },
  )


def test_a_run_stops_on_a_full_disk_and_resumes_when_there_is_room(
  disk, tmp_path
):
  stopped = run(disk, 'full')
  assert stopped.returncode == 1
  assert stopped.stderr == (
    'error: step 6: the checkpoint of step 4 cannot be written: No space left '
    'on device. The newest checkpoint is that of step 2\n'
  )
  assert saved_steps(disk / 'run') == [2]
  (disk / 'other').unlink()
  finished = run(disk, 'none')
  assert finished.returncode == 0, finished.stderr
  assert 'Resuming from step 2' in finished.stdout
  (tmp_path / 'straight').mkdir()
  assert run(tmp_path / 'straight', 'none').returncode == 0
  straight = tmp_path / 'straight' / 'run'
  assert_same_end(disk / 'run', straight)


def test_a_run_that_could_not_save_its_end_does_not_claim_success(disk):
  process = run(disk, 'full', '--config.on_save_error=warn')
  assert process.returncode == 1
  assert process.stderr.startswith('error: step 8 is done but could not be ')
  assert process.stderr.count('\n') == 1
  for step in (4, 6, 8):
    said = f'the checkpoint of step {step} cannot be written: No space left'
    assert said in process.stdout
  assert 'Finished' not in process.stdout
  assert saved_steps(disk / 'run') == [2]


def test_checkpoints_are_written_again_when_there_is_room(disk):
  process = run(disk, 'full_once', '--config.on_save_error=warn')
  assert process.returncode == 0, process.stderr
  assert process.stderr == ''
  assert saved_steps(disk / 'run') == [2, 6, 8]
  rows = read_metrics(disk / 'run')
  assert [row['step'] for row in rows] == [2, 4, 6, 8]


def test_a_disk_that_becomes_read_only_stops_a_run(disk):
  process = run(disk, 'read_only')
  assert process.returncode == 1
  assert process.stderr == (
    'error: step 4: the checkpoint of step 4 cannot be written: Read-only file '
    'system. The newest checkpoint is that of step 2\n'
  )
  assert saved_steps(disk / 'run') == [2]


def test_a_read_only_workdir_is_refused(disk):
  subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
  process = run(disk, 'none')
  assert process.returncode == 2
  assert process.stderr.startswith(f'error: --workdir={disk}/run: ')
  assert process.stderr.count('\n') == 1
