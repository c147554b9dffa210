"""Stopping on SIGTERM, SIGINT and SIGHUP."""

import os
import signal
import subprocess
import sys

import pytest

from common_flax.distributed.signals import Signals
from common_flax.errors import StoppedError

KILLING = [signal.SIGTERM, signal.SIGINT]
NUMBERS = [*KILLING, signal.SIGHUP]


@pytest.fixture(autouse=True)
def hangups():
  """Tests may run under nohup."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('number', NUMBERS)
def test_a_signal_raises_an_error(number):
  with pytest.raises(StoppedError) as raised, Signals():
    os.kill(os.getpid(), number)
    pytest.fail('it went on')
  assert raised.value.number == number


@pytest.mark.parametrize('number', NUMBERS)
def test_held_code_continues(number):
  with Signals() as signals, signals.held():
    assert signals.received is None
    os.kill(os.getpid(), number)
    assert signals.received == number


def test_earlier_handlers_are_restored():
  before = [signal.getsignal(number) for number in NUMBERS]
  with Signals() as signals, signals.held():
    os.kill(os.getpid(), signal.SIGTERM)
  assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize('first', KILLING)
@pytest.mark.parametrize('second', KILLING)
def test_a_second_signal_ends_the_process_at_once(first, second):
  program = f"""
import os
from common_flax.distributed.signals import Signals
with Signals() as signals, signals.held():
  os.kill(os.getpid(), {int(first)})
  print('goes on', flush=True)
  os.kill(os.getpid(), {int(second)})
  print('never')
"""
  process = subprocess.run(
    [sys.executable, '-c', program],
    check=False,
    capture_output=True,
    text=True,
  )
  assert process.stdout == 'goes on\n'
  assert process.stderr == ''
  assert process.returncode == -second


@pytest.mark.parametrize('first', NUMBERS)
def test_a_hangup_after_another_signal_does_not_kill(first):
  # A shell and the kernel may each send one, and systemd one beside SIGTERM.
  with Signals() as signals, signals.held():
    os.kill(os.getpid(), first)
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.received == first


@pytest.mark.parametrize('second', KILLING)
def test_a_signal_after_a_hangup_does_not_kill_yet(second):
  with Signals() as signals, signals.held():
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), second)
    assert signals.received == second
    assert signal.getsignal(second) == signal.SIG_DFL


def test_a_hangup_that_was_ignored_stays_ignored():
  signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
  with Signals() as signals:
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.received is None
