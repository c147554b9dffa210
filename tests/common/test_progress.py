"""The progress of training in a notebook, with a stand-in for its kernel."""

import base64
import sys
import types

import numpy as np
import pytest

from common_flax import images
from common_flax import progress
from common_flax.cli import terminal


class Output:
  """What one display shows: its contents, the last one visible."""

  def __init__(self, content, metadata):
    self.contents, self.metadata = [content], metadata

  def update(self, content, *, raw, metadata=None):
    assert raw
    self.contents.append(content)
    self.metadata = metadata


@pytest.fixture
def outputs(monkeypatch):
  """The outputs of a cell."""
  found = []

  def display(content, *, raw, metadata, display_id):
    assert raw
    assert display_id
    found.append(Output(content, metadata))
    return found[-1]

  kernel = types.ModuleType('IPython')
  kernel.get_ipython = lambda: types.SimpleNamespace(kernel='a kernel')
  module = types.ModuleType('IPython.display')
  module.display = display
  monkeypatch.setitem(sys.modules, 'IPython', kernel)
  monkeypatch.setitem(sys.modules, 'IPython.display', module)
  monkeypatch.setattr(progress, '_UPDATE_SECONDS', 0)
  return found


def test_ipython_on_a_terminal_is_no_notebook(monkeypatch):
  shell = types.ModuleType('IPython')
  shell.get_ipython = types.SimpleNamespace
  monkeypatch.setitem(sys.modules, 'IPython', shell)
  assert not progress.in_notebook()
  shell.get_ipython = lambda: None
  assert not progress.in_notebook()
  monkeypatch.delitem(sys.modules, 'IPython')
  assert not progress.in_notebook()


def test_a_notebook_shows_a_bar_and_the_latest_picture(outputs, capsys):
  pictures = [np.full((4, 100, 1), grey, np.uint8) for grey in (0, 200)]
  with terminal.TrainingProgress(2, 6) as shown:
    shown.began()
    shown.picture(2, pictures[0])
    shown.advance(4)
    shown.report(4, 'd_loss <0.5')
    shown.picture(4, pictures[1])
    shown.say('said')
  bar, picture = outputs
  texts = [content['text/html'] for content in bar.contents]
  assert 'compiling' in texts[0]
  assert 'value="2" max="6"' in texts[0]
  assert 'value="4" max="6"' in texts[-1]
  assert 'd_loss &lt;0.5' in texts[-1]
  assert len(picture.contents) == 2
  assert picture.metadata == {'image/png': {'alt': 'samples after 4 steps'}}
  enlarged = np.repeat(np.repeat(pictures[1], 4, axis=0), 4, axis=1)
  png = base64.b64decode(picture.contents[-1]['image/png'])
  assert png == images.to_png(enlarged)
  assert capsys.readouterr().out == 'said\n'


def test_a_notebook_is_not_flooded(outputs, monkeypatch):
  monkeypatch.setattr(progress, '_UPDATE_SECONDS', 3600)
  with terminal.TrainingProgress(0, 1000) as shown:
    for step in range(1, 1001):
      shown.advance(step)
  (bar,) = outputs
  assert len(bar.contents) == 2
  assert 'value="1000"' in bar.contents[-1]['text/html']


def test_long_work_shows_a_bar_in_a_notebook(outputs):
  assert list(progress.track(range(100), 100, 'Reading')) == [*range(100)]
  assert list(progress.track(range(9), 9, 'Reading')) == [*range(9)]
  (bar,) = outputs
  assert 'value="100" max="100"' in bar.contents[-1]['text/html']


def test_no_picture_is_drawn_outside_notebooks(capsys):
  with terminal.TrainingProgress(0, 2) as shown:
    shown.picture(1, np.zeros((2, 2, 1), np.uint8))
  assert capsys.readouterr().out == ''
