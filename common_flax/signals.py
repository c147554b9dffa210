"""Signals that ask a run to stop."""

from collections.abc import Iterator
import contextlib
import signal
import threading


class StoppedError(Exception):
  """A signal stopped what could not be gone on with later anyway."""

  def __init__(self, number: int):
    super().__init__(f'stopped by {signal.Signals(number).name}')
    self.number = number


class Signals:
  """Stops at a first SIGTERM or SIGINT, in order; a second one ends at once.

  What is done in `held` goes on until it has looked at `received`; elsewhere a
  `StoppedError` comes between.
  """

  _NUMBERS = (signal.SIGTERM, signal.SIGINT)

  def __enter__(self) -> 'Signals':
    self.received: int | None = None
    self._is_held = False
    self._previous = {}
    if threading.current_thread() is threading.main_thread():
      self._previous = {n: signal.signal(n, self._on) for n in self._NUMBERS}
    return self

  @contextlib.contextmanager
  def held(self) -> Iterator[None]:
    """Signals are remembered, and nothing is interrupted."""
    self._is_held = True
    try:
      yield
    finally:
      self._is_held = False

  def _on(self, number: int, unused_frame) -> None:
    self.received = number
    for each in self._previous:
      signal.signal(each, signal.SIG_DFL)
    if not self._is_held:
      raise StoppedError(number)

  def __exit__(self, *unused_exception) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)
