"""Signals that ask a run to stop."""

import signal
import threading


class Signals:
  """Remembers a first SIGTERM or SIGINT; a second one acts at once."""

  _NUMBERS = (signal.SIGTERM, signal.SIGINT)

  def __enter__(self) -> 'Signals':
    self.received: int | None = None
    self._previous = {}
    if threading.current_thread() is threading.main_thread():
      self._previous = {n: signal.signal(n, self._on) for n in self._NUMBERS}
    return self

  def _on(self, number: int, unused_frame) -> None:
    self.received = number
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def __exit__(self, *unused_exception) -> None:
    self._restore()
