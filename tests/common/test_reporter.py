"""When the one who reports draws, and when not."""

from types import SimpleNamespace

from common_flax import reporter as reporter_lib


def test_curves_are_drawn_in_training_once_a_minute_at_most(monkeypatch):
  times = iter([10, 40, 69, 71, 100, 101])
  clock = SimpleNamespace(monotonic=lambda: next(times))
  monkeypatch.setattr(reporter_lib, 'time', clock)
  drawn = []
  writer = SimpleNamespace(curves=lambda: drawn.append(1))
  reporter = reporter_lib.Reporter(None, None, writer, None, None)
  counts = []
  for _ in range(5):
    reporter.draw_curves(in_any_case=False)
    counts.append(len(drawn))
  assert counts == [1, 1, 1, 2, 2]
  reporter.draw_curves(in_any_case=True)  # as when training fails
  assert len(drawn) == 3
