"""The command line of training, without a run."""

import signal

from conftest import CONFIGS
import pytest

from common_flax.cli import exit_status
from common_flax.cli import training_command
from common_flax.errors import StoppedError
from common_flax.errors import UserError


def parse():
  argv = ['command', f'--config={CONFIGS}/ring.py:smoke', '--workdir=x']
  return training_command.parse(argv, 'train', 'usage')


@pytest.fixture
def hangups():
  """Tests may run under nohup."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  yield
  signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('JAX_NUMPY_DTYPE_PROMOTION', 'strict'),
    ('JAX_TRANSFER_GUARD', 'disallow'),
    ('JAX_TRANSFER_GUARD_HOST_TO_DEVICE', 'disallow_explicit'),
    ('JAX_DEBUG_KEY_REUSE', 'True'),
  ],
)
def test_a_setting_that_would_end_a_run_is_named(monkeypatch, name, value):
  monkeypatch.setenv(name, value)
  with pytest.raises(
    UserError, match=f'^{name}={value}: training cannot use it'
  ):
    parse()


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('JAX_NUMPY_DTYPE_PROMOTION', 'standard'),
    ('JAX_TRANSFER_GUARD', 'log'),
    ('JAX_DEBUG_KEY_REUSE', '0'),
  ],
)
def test_other_settings_are_taken(monkeypatch, name, value):
  monkeypatch.setenv(name, value)
  assert parse().workdir == 'x'


@pytest.mark.usefixtures('hangups')
@pytest.mark.parametrize('is_early', [False, True])
def test_a_second_hangup_does_not_hide_how_to_resume(capsys, is_early):
  arguments, status = parse(), exit_status.ExitStatus()
  with training_command.reporting_signals(arguments, status):
    if is_early:
      raise StoppedError(signal.SIGHUP)
    status.value = training_command.report(signal.SIGHUP, arguments)
  signal.raise_signal(signal.SIGHUP)
  assert status.value == 129
  assert arguments.again in capsys.readouterr().out
