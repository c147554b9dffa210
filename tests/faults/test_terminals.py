"""Runs whose terminal closes, or whose output nobody reads any more."""

import os
import pty
import subprocess
import sys
import threading
import time

from conftest import HASTY_COMPILER
from conftest import LEAN
from conftest import POINTS_RUN
from conftest import points_run
from conftest import read_metrics
from conftest import ROOT
from conftest import saved_steps
import pytest

from gan_flax.train import train

pytestmark = pytest.mark.slow

ENDLESS = ('--config.num_steps=1000000', '--config.checkpoint_every_steps=100')


# Takes the standard input as its terminal; a handler lives through `exec` only
# if it ignores.
TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def start(workdir, *arguments, before=(), **options):
  """Starts to train in a process."""
  changes = (f'--config.{name}={value}' for name, value in POINTS_RUN.items())
  return subprocess.Popen(
    [
      sys.executable,
      *before,
      '-m',
      'gan_flax.main',
      '--config=configs/ring.py:smoke',
      f'--workdir={workdir}',
      *changes,
      '--config.log_every_steps=2',
      *arguments,
    ],
    cwd=ROOT,
    env={
      **os.environ,
      'PYTHONPATH': f'{LEAN}:{ROOT}',
      'XLA_FLAGS': HASTY_COMPILER,
    },
    **options,
  )


def start_in_terminal(workdir, hangup, *arguments):
  """Returns a process and a function that closes its terminal."""
  screen, terminal = pty.openpty()
  process = start(
    workdir,
    *arguments,
    before=['-c', TAKE_TERMINAL, hangup],
    stdin=terminal,
    stdout=terminal,
    stderr=terminal,
    start_new_session=True,
  )
  os.close(terminal)
  is_closing = threading.Event()

  def read():
    while not is_closing.is_set():
      os.read(screen, 4096)
    os.close(screen)

  reader = threading.Thread(target=read)
  reader.start()

  def close():
    is_closing.set()  # the bar is redrawn all the time
    reader.join()

  return process, close


def wait_for_metrics(workdir, process):
  file = workdir / 'metrics.jsonl'
  deadline = time.monotonic() + 240
  while not (file.exists() and file.stat().st_size):
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_a_run_whose_terminal_closes_loses_no_step(tmp_path):
  process, close = start_in_terminal(tmp_path, 'SIG_DFL', *ENDLESS)
  wait_for_metrics(tmp_path, process)
  close()
  assert process.wait(timeout=60) == 129
  step = read_metrics(tmp_path)[-1]['step']
  assert saved_steps(tmp_path)[-1] == step
  log = (tmp_path / 'log.txt').read_text()
  assert 'Stopped by a signal and checkpointed. To resume: ' in log
  assert f' step {step:,}/1,000,000  d_loss' in log
  assert '\x1b' not in log
  train(points_run(num_steps=step + 4, log_every_steps=2), tmp_path)
  assert saved_steps(tmp_path)[-1] == step + 4
  resumed = (tmp_path / 'log.txt').read_text().removeprefix(log)
  assert f'Resuming from step {step:,} ' in resumed


def test_under_nohup_a_run_outlives_its_terminal(tmp_path):
  changes = ['--config.num_steps=300', '--config.checkpoint_every_steps=300']
  process, close = start_in_terminal(tmp_path, 'SIG_IGN', *changes)
  wait_for_metrics(tmp_path, process)
  close()
  assert process.wait(timeout=240) == 0
  log = (tmp_path / 'log.txt').read_text()
  assert 'standard output cannot be written to: Input/output error.' in log
  assert ' step 300/300 ' in log
  assert 'Finished. ' in log


def test_a_run_outlives_the_reader_of_its_output(tmp_path):
  process = start(
    tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )
  process.stdout.readline()
  process.stdout.close()
  with process.stderr:
    errors = process.stderr.read()
  assert process.wait(timeout=240) == 0
  assert errors == (
    'standard output cannot be written to: Broken pipe. Training goes on.\n'
  )
  assert saved_steps(tmp_path)[-1] == 8
  log = (tmp_path / 'log.txt').read_text()
  assert errors in log
  assert ' step 8/8 ' in log
