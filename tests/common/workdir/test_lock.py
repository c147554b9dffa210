"""One run at a time in a workdir."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

from conftest import points_run
from etils import epath
import pytest

from common_flax.errors import UserError
from common_flax.workdir import lock
from gan_flax.train import train

ELSEWHERE = {'machine': 'elsewhere', 'pid': 7, 'beats': 0}


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(lock, 'STALE_SECONDS', 0.3)
  monkeypatch.setattr(lock, 'BEAT_SECONDS', 0.05)


@pytest.fixture
def leased(quick, monkeypatch):
  """A file system without locks, as an object store."""

  def flock(*unused):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', flock)


def leave(workdir, holder):
  (workdir / lock.NAME).write_text(json.dumps(holder))


def holder_of(workdir):
  return json.loads((workdir / lock.NAME).read_text())


def assert_refused(workdir, name):
  with pytest.raises(UserError, match=name) as raised, lock.held(workdir):
    pytest.fail('held twice')
  assert str(raised.value).startswith(f'--workdir={workdir}: process ')


def start_holder(workdir, then):
  """Another process that holds the workdir, and says so; then runs a line."""
  program = f"""
import os, sys
from common_flax.workdir import lock
with lock.held({str(workdir)!r}):
  print('held', flush=True)
  {then}
"""
  process = subprocess.Popen(
    [sys.executable, '-c', program],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'held\n'
  return process


def test_a_second_run_is_refused_and_the_first_one_leaves_nothing(tmp_path):
  with lock.held(tmp_path):
    assert_refused(tmp_path, f'process {os.getpid()} on ')
    assert holder_of(tmp_path)['pid'] == os.getpid()
  assert list(tmp_path.iterdir()) == []


def test_another_process_is_named_while_it_holds_the_workdir(tmp_path):
  with start_holder(tmp_path, 'sys.stdin.read()') as process:
    assert_refused(tmp_path, f'process {process.pid} on ')
  with lock.held(tmp_path):
    pass


def test_the_lock_ends_with_its_process_though_a_child_lives(tmp_path, capsys):
  # The child inherits every open file, and outlives its parent.
  # It says so, since a kill that came sooner would find the lock in it, too.
  fork = 'x = os.fork(); print("forked", flush=True)'
  process = start_holder(
    tmp_path, f'{fork}; sys.stdin.read(); x or os._exit(0)'
  )
  for _ in range(2):
    assert process.stdout.readline() == 'forked\n'
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert holder_of(tmp_path)['pid'] == process.pid
  with lock.held(tmp_path):
    assert holder_of(tmp_path)['pid'] == os.getpid()
  assert f'left behind by process {process.pid}' in capsys.readouterr().out
  process.stdin.close()
  process.stdout.close()


def test_a_forked_child_that_leaves_does_not_end_the_lock(tmp_path):
  then = """if not os.fork():
    sys.exit()
  os.wait(); print('left', flush=True); sys.stdin.read()"""
  with start_holder(tmp_path, then) as process:
    assert process.stdout.readline() == 'left\n'
    assert_refused(tmp_path, f'process {process.pid} on ')


DAMAGED = [
  'garbage',
  '[1, 2]',
  '{"pid": "x"}',
  '1',
  '[' * 4096,
  r'{"pid": "\ud800"}',
  r'{"machine": "\ud800\n", "pid": [null]}',
]


@pytest.mark.parametrize('content', DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_lock_is_taken_over(tmp_path, content, capsys):
  (tmp_path / lock.NAME).write_text(content)
  with lock.held(tmp_path):
    assert holder_of(tmp_path)['pid'] == os.getpid()
  output = capsys.readouterr().out
  assert 'left behind by process ? on ' in output
  assert output[:-1].isprintable()


@pytest.mark.parametrize('content', DAMAGED, ids=range(len(DAMAGED)))
def test_without_locks_a_damaged_lock_is_taken_over(leased, tmp_path, content):
  (tmp_path / lock.NAME).write_text(content)
  with lock.held(tmp_path):
    assert holder_of(tmp_path)['pid'] == os.getpid()


def test_a_lock_that_is_a_pipe_does_not_block(tmp_path):
  os.mkfifo(tmp_path / lock.NAME)
  with pytest.raises(UserError, match='not a regular file'):
    with lock.held(tmp_path):
      pass


def test_a_lock_that_its_holder_just_removed_is_not_taken(
  tmp_path, monkeypatch
):
  flock = fcntl.flock

  def flock_after_removal(descriptor, operation):
    monkeypatch.setattr(fcntl, 'flock', flock)
    (tmp_path / lock.NAME).unlink()
    flock(descriptor, operation)

  monkeypatch.setattr(fcntl, 'flock', flock_after_removal)
  with lock.held(tmp_path):
    assert_refused(tmp_path, f'process {os.getpid()} on ')


def test_a_lock_that_links_elsewhere_is_refused(tmp_path):
  other = tmp_path / 'other'
  other.write_text('precious')
  (tmp_path / lock.NAME).symlink_to(other)
  with pytest.raises(UserError, match='cannot be written to'):
    with lock.held(tmp_path):
      pass
  assert other.read_text() == 'precious'


def test_without_locks_a_second_run_is_refused(leased, tmp_path):
  with lock.held(tmp_path):
    assert_refused(tmp_path, f'process {os.getpid()} on ')
  assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_without_locks_a_dead_process_of_this_machine_is_not_waited_for(
  leased, tmp_path, monkeypatch
):
  monkeypatch.setattr(lock, 'STALE_SECONDS', 3600)
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  dead = {'machine': 'here', 'pid': process.pid, 'started': '1'}
  leave(tmp_path, {**dead, 'boot': lock._boot()})
  with lock.held(tmp_path):
    assert holder_of(tmp_path)['pid'] == os.getpid()


def test_without_locks_a_file_that_does_not_change_is_taken_over(
  leased, tmp_path, capsys
):
  leave(tmp_path, ELSEWHERE)
  with lock.held(tmp_path):
    assert holder_of(tmp_path)['pid'] == os.getpid()
  output = capsys.readouterr().out
  assert 'held by process 7 on elsewhere; waiting' in output
  assert 'left behind by process 7 on elsewhere; taken over' in output


def test_without_locks_a_file_that_changes_is_respected(leased, tmp_path):
  leave(tmp_path, ELSEWHERE)
  beat = threading.Timer(0.1, leave, (tmp_path, {**ELSEWHERE, 'beats': 1}))
  beat.start()
  assert_refused(tmp_path, 'process 7 on elsewhere')
  beat.join()


def test_without_locks_a_holder_rewrites_its_file(leased, tmp_path):
  with lock.held(tmp_path):
    time.sleep(0.5)
    assert holder_of(tmp_path)['beats'] >= 2


def test_without_locks_the_last_of_two_that_start_together_remains(
  leased, tmp_path, monkeypatch
):
  write = lock._write

  def write_and_lose(path, me):
    write(path, me)
    leave(tmp_path, {**ELSEWHERE, 'token': 'other'})

  monkeypatch.setattr(lock, '_write', write_and_lose)
  with pytest.raises(UserError, match='at the same moment'):
    with lock.held(tmp_path):
      pass
  assert holder_of(tmp_path)['token'] == 'other'


def test_an_object_store_gets_no_kernel_lock(quick, tmp_path, monkeypatch):
  monkeypatch.setattr(lock.files, 'is_remote', lambda path: True)
  monkeypatch.setattr(
    lock.files,
    'write_bytes',
    lambda path, data: epath.Path(path).write_bytes(data),
  )
  monkeypatch.setattr(fcntl, 'flock', lambda *unused: pytest.fail('locked'))
  with lock.held(tmp_path):
    assert_refused(tmp_path, f'process {os.getpid()} on ')


def test_a_run_holds_its_workdir(monkeypatch, tmp_path):
  held = []

  def look(*arguments):
    held.append((tmp_path / 'run' / lock.NAME).exists())

  monkeypatch.setattr('common_flax.training.loop.fit', look)
  train(points_run(), tmp_path / 'run')
  assert held == [True]
  assert not (tmp_path / 'run' / lock.NAME).exists()
