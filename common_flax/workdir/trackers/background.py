"""Tells a tracker in a thread, so that training neither waits nor fails."""

import queue
import threading
import time
from typing import Any
from typing import Protocol

_MAX_WAITING = 1000  # messages; a service that lags further is given up


class Tracker(Protocol):
  """A run in a service. All methods are called in one thread."""

  def start(self) -> None:
    """Begins the run, or goes on with it."""

  def scalars(self, step: int, values: dict[str, float]) -> None:
    """Adds numbers of a step."""

  def picture(self, step: int, png: bytes) -> None:
    """Adds a picture of samples."""

  def finish(self, is_finished: bool, has_failed: bool) -> None:
    """Ends the run; it may go on later."""


class Background:
  """A tracker in a thread. After an error it is told nothing more.

  Attributes:
    name: of the tracker.
  """

  def __init__(self, name: str, tracker: Tracker):
    """Starts the thread and the tracker.

    Args:
      name: of the tracker, for the line that reports an error.
      tracker: the tracker.
    """
    self.name = name
    self._tracker = tracker
    self._waiting: queue.Queue = queue.Queue()
    self._is_given_up = False
    # Python does not wait for it at the end: a service may never answer.
    self._thread = threading.Thread(target=self._work, name=name, daemon=True)
    self.tell('start')
    self._thread.start()

  def tell(self, what: str, *arguments: Any) -> None:
    """Calls a method of the tracker, later."""
    if self._waiting.qsize() > _MAX_WAITING:
      self._give_up('it does not keep up')
    if not self._is_given_up:
      self._waiting.put((what, arguments))

  def close(self, deadline: float) -> None:
    """Waits until everything is told, but not for long.

    Args:
      deadline: time of `time.monotonic`.
    """
    self._waiting.put(None)
    seconds = max(0.0, deadline - time.monotonic())
    self._thread.join(0.0 if self._is_given_up else seconds)
    if self._thread.is_alive():
      self._give_up('it did not finish in time')

  def _work(self) -> None:
    while (message := self._waiting.get()) is not None:
      what, arguments = message
      if self._is_given_up:
        continue
      try:
        getattr(self._tracker, what)(*arguments)
      except Exception as error:  # each library raises its own types
        self._give_up(' '.join(str(error).split())[:300] or repr(error))

  def _give_up(self, reason: str) -> None:
    if not self._is_given_up:
      self._is_given_up = True
      print(f'config.trackers: {self.name}: {reason}; going on without it.')
