"""What is drawn beside training still says when it fails."""

import pytest

from common_flax import writers


def fail(*unused):
  raise OSError('no space left')


def test_an_error_of_the_last_curves_is_raised(tmp_path, monkeypatch):
  monkeypatch.setattr(writers, 'write_curves', fail)
  with (
    pytest.raises(OSError, match='no space left'),
    writers.RunWriter(tmp_path, 0, {'loss': ('d_loss',)}) as writer,
  ):
    writer.scalars(1, {'d_loss': 1.0})
    writer.curves()
