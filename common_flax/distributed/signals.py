"""Stops a run on SIGTERM or SIGINT."""

from collections.abc import Iterator
import contextlib
import signal
import threading

from common_flax.errors import StoppedError


class Signals:
  """Stops cleanly at a first SIGTERM or SIGINT; a second one kills the process.

  Code in `held` continues and checks `received`; elsewhere a signal raises a
  `StoppedError`.
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
    """Records signals in `received` instead of raising an error."""
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
