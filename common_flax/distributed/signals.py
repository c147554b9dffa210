"""Stops a run on SIGTERM, SIGINT or SIGHUP."""

from collections.abc import Iterator
import contextlib
import signal
import threading

from common_flax.errors import StoppedError


class Signals:
  """Stops cleanly at a first signal; a second SIGTERM or SIGINT kills at once.

  SIGHUP, of a terminal that closes, never kills: the shell and the kernel may
  each send one, and a system that shuts down sends one beside SIGTERM. Where it
  was ignored before, such as under `nohup`, it still is.

  Code in `held` continues and checks `received`; elsewhere a signal raises a
  `StoppedError`.
  """

  _NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

  def __enter__(self) -> 'Signals':
    self.received: int | None = None
    self._is_held = False
    self._previous = {}
    if threading.current_thread() is threading.main_thread():
      self._previous = {
        number: signal.signal(number, self._on)
        for number in self._NUMBERS
        if not (number == signal.SIGHUP and _is_ignored(number))
      }
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
      if each == signal.SIGHUP:
        signal.signal(each, signal.SIG_IGN)
      elif number != signal.SIGHUP:
        signal.signal(each, signal.SIG_DFL)
    if not self._is_held:
      raise StoppedError(number)

  def __exit__(self, *unused_exception) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
  return signal.getsignal(number) == signal.SIG_IGN
