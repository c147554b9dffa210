"""One run at a time in a workdir."""

import json
import os
import subprocess
import sys
import threading
import time

from conftest import points_run
import pytest

from common_flax import lock
from common_flax.config import UserError
from gan_flax.train import train

ELSEWHERE = {'machine': 'elsewhere boot pid:[1]', 'pid': 7, 'beats': 0}


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(lock, 'STALE_SECONDS', 0.3)
  monkeypatch.setattr(lock, 'BEAT_SECONDS', 0.05)


def leave(workdir, holder):
  (workdir / lock.NAME).write_text(json.dumps(holder))


def test_a_second_run_is_refused_and_the_first_one_leaves_nothing(tmp_path):
  with lock.held(tmp_path):
    with pytest.raises(UserError) as raised, lock.held(tmp_path):
      pytest.fail('held twice')
    assert (tmp_path / lock.NAME).exists()
  error = str(raised.value)
  assert error.startswith(f'--workdir={tmp_path}: process {os.getpid()} on ')
  assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_that_is_gone_is_taken_at_once(tmp_path, capsys):
  program = f"""
import os, signal
from common_flax import lock
with lock.held({str(tmp_path)!r}):
  os.kill(os.getpid(), signal.SIGKILL)
"""
  process = subprocess.run([sys.executable, '-c', program], check=False)
  assert process.returncode == -9
  assert (tmp_path / lock.NAME).exists()
  began = time.monotonic()
  with lock.held(tmp_path):
    assert time.monotonic() - began < 5
  assert 'left behind by process' in capsys.readouterr().out


def test_another_process_of_the_same_number_is_not_the_holder(tmp_path):
  with lock.held(tmp_path):
    holder = json.loads((tmp_path / lock.NAME).read_text())
  leave(tmp_path, {**holder, 'started': 'before the flood'})
  with lock.held(tmp_path):
    pass


def test_a_lock_of_elsewhere_is_stale_if_nobody_touches_it(
  quick, tmp_path, capsys
):
  leave(tmp_path, ELSEWHERE)
  with lock.held(tmp_path):
    pass
  output = capsys.readouterr().out
  assert 'held by process 7 on elsewhere; waiting' in output
  assert 'left behind by process 7 on elsewhere; taken over' in output


def test_a_lock_of_elsewhere_that_is_touched_is_respected(quick, tmp_path):
  leave(tmp_path, ELSEWHERE)
  touch = threading.Timer(0.1, leave, (tmp_path, {**ELSEWHERE, 'beats': 1}))
  touch.start()
  with pytest.raises(UserError, match='process 7 on elsewhere'):
    with lock.held(tmp_path):
      pytest.fail('held twice')
  touch.join()


def test_a_holder_touches_its_lock(quick, tmp_path):
  with lock.held(tmp_path):
    time.sleep(0.5)
    holder = json.loads((tmp_path / lock.NAME).read_text())
  assert holder['beats'] >= 2


@pytest.mark.parametrize('content', ['', 'garbage', '[1, 2]', '{"pid": "x"}'])
def test_a_damaged_lock_is_taken_over(quick, tmp_path, content):
  (tmp_path / lock.NAME).write_text(content)
  with lock.held(tmp_path):
    pass


def test_a_run_holds_its_workdir(monkeypatch, tmp_path):
  held = []

  def look(*arguments):
    held.append((tmp_path / 'run' / lock.NAME).exists())

  monkeypatch.setattr('common_flax.loop.train', look)
  train(points_run(), tmp_path / 'run')
  assert held == [True]
  assert not (tmp_path / 'run' / lock.NAME).exists()
