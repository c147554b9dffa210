"""A run that is killed at random moments ends like one that never was."""

from conftest import HASTY_COMPILER
from conftest import LEAN
from killing import compare
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(('family', 'kills', 'inside_saves'), [('gan', 6, 2)])
def test_kills_change_nothing(
  tmp_path, monkeypatch, family, kills, inside_saves
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
  monkeypatch.setenv('XLA_FLAGS', HASTY_COMPILER)  # one device
  monkeypatch.setenv('PYTHONPATH', str(LEAN))
  report = compare(tmp_path, family, kills, inside_saves, 120, seed=1)
  assert report.kills >= kills
  assert report.inside_saves >= inside_saves
  assert report.most_lost <= 20  # two checkpoints, one of them unfinished
