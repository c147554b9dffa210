"""Output of commands on a terminal and in a log file."""

import io

import pytest
import rich.console

from common_flax import progress as progress_lib
from common_flax.cli import terminal


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0, '0 s'),
    (0.2, '1 s'),
    (59, '59 s'),
    (60, '1 min 00 s'),
    (200, '3 min 20 s'),
    (7500, '2 h 05 min'),
  ],
)
def test_durations_in_words(seconds, text):
  assert terminal.duration(seconds) == text


def use_terminal(monkeypatch, is_terminal):
  screen = rich.console.Console(
    file=io.StringIO(), force_terminal=is_terminal, width=100
  )
  for module in (terminal, progress_lib):
    monkeypatch.setattr(module, 'console', lambda *unused: screen)
  return screen.file


def run_training(monkeypatch, is_terminal):
  output = use_terminal(monkeypatch, is_terminal)
  with terminal.TrainingProgress(0, 20) as progress:
    progress.say('First step.')
    for step in range(1, 21):
      progress.advance(step)
      if step % 10 == 0:
        progress.report(step, 'd_loss 0.500')
  return output.getvalue()


def test_a_log_file_gets_one_line_per_report(monkeypatch):
  lines = run_training(monkeypatch, False).splitlines()
  assert lines == [
    'First step.',
    'step 10/20  d_loss 0.500',
    'step 20/20  d_loss 0.500',
  ]


def test_a_terminal_gets_a_bar(monkeypatch):
  output = run_training(monkeypatch, True)
  assert '━' in output
  assert 'step 20/20' in output
  assert 'd_loss 0.500' in output


@pytest.mark.parametrize('is_terminal', [True, False])
def test_tracking_yields_every_item(monkeypatch, is_terminal):
  output = use_terminal(monkeypatch, is_terminal)
  assert list(progress_lib.track(range(200), 200, 'Reading')) == list(
    range(200)
  )
  assert ('Reading' in output.getvalue()) == is_terminal
