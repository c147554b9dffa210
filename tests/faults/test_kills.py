"""Runs that are killed at any moment end as those that never were."""

from killing import compare
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(('family', 'kills', 'inside_saves'), [('gan', 10, 3)])
def test_kills_change_nothing(
  tmp_path, monkeypatch, family, kills, inside_saves
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'caches'))
  monkeypatch.setenv('XLA_FLAGS', '')  # one device, as anybody's
  report = compare(tmp_path, family, kills, inside_saves, 120, seed=1)
  assert report.kills >= kills
  assert report.inside_saves >= inside_saves
  assert report.most_lost <= 20  # a checkpoint, and the one in the making
