"""What a command says: on its standard streams, and in the log of a run.

A terminal may be closed, and the reader of a pipe may end, while a run trains.
Neither stops the run: what it goes on to say is in `log.txt` of its workdir. A
command that does not train ends quietly with its reader, as Unix tools do.
"""

from collections.abc import Iterator
import contextlib
import errno
import os
import sys
from typing import TextIO

from common_flax.log import Log

# Errors of a stream that cannot be written any more. Others may pass: a disk
# that is full, a terminal that is busy.
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO)
# Names of the streams in messages.
_OUTPUT = 'standard output'
_ERROR = 'standard error'


class _Current:
  """The log of the run that trains, if any."""

  log: Log | None = None


class OutputClosedError(BaseException):
  """Nobody reads the standard output; like `KeyboardInterrupt`, not caught."""


class _Stream:
  """A standard stream that also writes to the log.

  Attributes:
    target: the stream behind it.
    goes_on: whether its errors are reported, not raised.
    is_shown_by_bar: whether a progress bar has taken the place of the stream.
  """

  is_shown_by_bar = False

  def __init__(self, target: TextIO, name: str, goes_on: bool):
    """Wraps a stream.

    Args:
      target: the stream.
      name: its name in messages.
      goes_on: whether an error of the stream is reported, not raised.
    """
    self.target = target
    self._name = name
    self.goes_on = goes_on
    self._is_gone = False
    self._reason: str | None = None  # of the first failure, to report
    self._is_reported = False

  def write(self, text: str) -> int:
    """Writes to the log and to the stream."""
    note(text)
    self.show(text)
    if text.endswith('\n'):  # else in the middle of a line
      self.report()
    return len(text)

  def writelines(self, lines: Iterator[str]) -> None:
    """Writes several texts."""
    for line in lines:
      self.write(line)

  def flush(self) -> None:
    """Writes what the stream has buffered."""
    self.show('')
    self.report()

  def show(self, text: str) -> None:
    """Writes to the stream alone."""
    if self._is_gone:
      return
    try:
      try:
        self.target.write(text)
      except UnicodeEncodeError:  # such as the name of a folder
        encoding = self.target.encoding
        self.target.write(
          text.encode(encoding, 'backslashreplace').decode(encoding)
        )
      if '\n' in text or not text:
        self.target.flush()
    except OSError as error:
      self._failed(error)
    except ValueError:  # closed by its owner
      if not self.target.closed:
        raise
      self._failed(OSError(errno.EBADF, 'it is closed'))

  def _failed(self, error: OSError) -> None:
    if error.errno in _GONE:
      self.drop()
    if not self.goes_on and self._name != _ERROR:
      if self._is_gone:
        raise OutputClosedError from error
      raise OSError(error.errno, error.strerror, self._name) from error
    self._reason = self._reason or error.strerror

  def report(self) -> None:
    """Says on stderr and in the log that the stream has failed, once."""
    if self.goes_on and self._reason and not self._is_reported:
      self._is_reported = True
      failure = f'{self._name} cannot be written to: {self._reason}'
      line = f'{failure}. Training goes on.\n'
      note(line)
      # A progress bar shows what is printed on stderr on the same terminal.
      if isinstance(sys.stderr, _Stream) and not sys.stderr.is_shown_by_bar:
        sys.stderr.show(line)

  def drop(self) -> None:
    """Writes no more, not even what is buffered when Python exits."""
    self._is_gone = True
    with contextlib.suppress(OSError, ValueError, AttributeError):
      number = self.target.fileno()
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, number)
      os.close(nowhere)

  def __getattr__(self, name: str):
    return getattr(self.target, name)


class _Screen:
  """Writes to a stream, but not to the log: control codes, for example."""

  def __init__(self, stream: _Stream):
    self._stream = stream

  def write(self, text: str) -> None:
    """Writes to the stream."""
    self._stream.show(text)
    self._stream.report()

  def __getattr__(self, name: str):
    return getattr(self._stream, name)


@contextlib.contextmanager
def _replaced(*, goes_on: bool) -> Iterator[None]:
  """Replaces the standard streams; an error of stderr is never raised."""
  before = sys.stdout, sys.stderr
  with open(os.devnull, 'w') as nowhere:
    out, err = (
      stream.target if isinstance(stream, _Stream) else stream or nowhere
      for stream in before
    )
    sys.stdout = _Stream(out, _OUTPUT, goes_on)
    sys.stderr = _Stream(err, _ERROR, goes_on)
    streams = sys.stdout, sys.stderr
    try:
      yield
      if goes_on:
        for stream in streams:
          stream.flush()
    finally:
      sys.stdout, sys.stderr = before
      for outer, stream in zip(before, streams, strict=True):
        last = outer if isinstance(outer, _Stream) else stream
        try:
          stream.target.flush()
        except (OSError, ValueError):
          if not last.goes_on:  # Python would fail when it exits
            last.drop()


@contextlib.contextmanager
def ending_with_reader() -> Iterator[None]:
  """Raises an error in the body where the standard output cannot be written.

  That is an OutputClosedError if nobody reads it any more, otherwise an
  OSError. Flush the output before the body ends; what cannot be written then is
  dropped.
  """
  with _replaced(goes_on=False):
    yield


@contextlib.contextmanager
def outliving_reader() -> Iterator[None]:
  """Goes on where the standard streams cannot be written, and keeps a log.

  The log is kept in memory until `log_to` names its folder. An exception that
  leaves the body is logged. Does nothing inside another such context.
  """
  if _Current.log is not None:
    yield
    return
  _Current.log = Log()
  try:
    with _replaced(goes_on=True):
      yield
  except BaseException as error:
    _Current.log.write_error(error)
    raise
  finally:
    _Current.log.close()
    _Current.log = None


@contextlib.contextmanager
def unheard() -> Iterator[None]:
  """Neither prints nor logs what the body says on the standard output."""
  before, _Current.log = _Current.log, None
  with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
    try:
      yield
    finally:
      _Current.log = before


def log_to(workdir: os.PathLike | str) -> None:
  """Writes the log of `outliving_reader` to a folder, from its beginning."""
  if _Current.log is not None:
    _Current.log.open(workdir)


def write_log() -> None:
  """Writes what the log has so far, to an object store too."""
  if _Current.log is not None:
    _Current.log.close()


def note(text: str) -> None:
  """Adds text to the log, if there is one, and shows it nowhere."""
  if _Current.log is not None:
    _Current.log.write(text)


def screen() -> TextIO | _Screen:
  """The standard output without the log."""
  out = sys.stdout
  return _Screen(out) if isinstance(out, _Stream) else out


def log_prints() -> None:
  """Logs what is printed while a progress bar has replaced the streams.

  The bar restores the streams before it.
  """
  if _Current.log is None:
    return
  if not isinstance(sys.stdout, _Stream):
    sys.stdout = _Stream(sys.stdout, _OUTPUT, goes_on=True)
    sys.stdout.is_shown_by_bar = True
  if not isinstance(sys.stderr, _Stream):
    sys.stderr = _Stream(sys.stderr, _ERROR, goes_on=True)
    sys.stderr.is_shown_by_bar = True


def finish() -> None:
  """Writes all that is buffered, before the process ends without cleaning."""
  for stream in (sys.stdout, sys.stderr):
    if stream:
      stream.flush()
  write_log()
