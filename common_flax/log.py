"""The log of a run: `log.txt` in its workdir, with all that the run said."""

import concurrent.futures
import os
import re
import stat
import sys
import threading
import time
import traceback

from etils import epath

from common_flax import files
from common_flax.errors import StoppedError
from common_flax.errors import TrainingFailedError
from common_flax.errors import UserError

NAME = 'log.txt'
_CODES = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')  # of colours, for example
_COPY_SECONDS = 60  # between two copies to an object store
_MAX_BYTES = 2**28  # of an earlier log in an object store
_MAX_WAITING = 2**20  # bytes kept while they cannot be written


class Log:
  """Lines with their times, appended to a file.

  A file that cannot be written is reported once and tried again at the next
  line, because a run can do without its log. Objects of a store cannot be
  appended to: there the whole log is written again, every minute and at the
  end.
  """

  def __init__(self):
    self._path: epath.Path | None = None
    self._line = ''  # which has not ended yet
    self._waiting = b''  # lines that are not written yet
    self._whole = b''  # in an object store, what is written
    self._copied = time.monotonic()
    self._copying: concurrent.futures.Future | None = None
    self._is_reported = False
    # Reporting a failure writes to the log.
    self._lock = threading.RLock()

  def open(self, workdir: epath.PathLike) -> None:
    """Writes to the file in a folder, which exists, from now on."""
    with self._lock:
      self._path = epath.Path(workdir) / NAME
      if files.is_remote(self._path):
        try:
          if self._path.exists():
            self._whole = files.read_bytes(self._path, _MAX_BYTES)
        except Exception as error:
          self._failed(error)
          self._path = None  # writing would lose what is there
      self._write()

  def write(self, text: str) -> None:
    """Adds text; a line is written once it has ended."""
    with self._lock:
      *lines, self._line = (self._line + text).split('\n')
      for line in lines:
        shown = _CODES.sub('', line).rpartition('\r')[2].rstrip()
        stamped = f'{time.strftime("%Y-%m-%d %H:%M:%S")} {shown}\n'
        self._waiting += stamped.encode(errors='backslashreplace')
      self._waiting = self._waiting[-_MAX_WAITING:]
      if lines:
        self._write()

  def write_error(self, error: BaseException) -> None:
    """Adds the reason why a run ends."""
    if isinstance(error, UserError | TrainingFailedError):
      self.write(f'error: {files.one_line(str(error))}\n')
    elif isinstance(error, StoppedError | KeyboardInterrupt | SystemExit):
      self.write(f'{type(error).__name__}: {error}\n')
    else:
      self.write(''.join(traceback.format_exception(error)))

  def close(self) -> None:
    """Writes all that is left."""
    if self._line:
      self.write('\n')
    with self._lock:
      if self._path and files.is_remote(self._path):
        self._copied = -_COPY_SECONDS
        if self._copying:
          self._copying.exception()  # waits
        self._write()
        if self._copying:
          self._copying.exception()

  def _write(self) -> None:
    """Writes what is waiting, if the file is known."""
    if self._path is None:
      return
    try:
      if files.is_remote(self._path):
        self._copy_if_due()
      else:
        self._append()
    except Exception as error:
      self._failed(error)

  def _append(self) -> None:
    # A link or a pipe in the workdir of somebody else is not followed.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(self._path, flags, 0o666)
    try:
      if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError('is not a regular file')
      while self._waiting:
        self._waiting = self._waiting[os.write(descriptor, self._waiting) :]
    finally:
      os.close(descriptor)

  def _copy_if_due(self) -> None:
    self._whole, self._waiting = self._whole + self._waiting, b''
    is_busy = self._copying and not self._copying.done()
    if is_busy or time.monotonic() - self._copied < _COPY_SECONDS:
      return
    if self._copying and self._copying.exception():
      self._failed(self._copying.exception())
    self._copied = time.monotonic()
    thread = concurrent.futures.ThreadPoolExecutor(1)
    self._copying = thread.submit(files.write_bytes, self._path, self._whole)
    thread.shutdown(wait=False)

  def _failed(self, error: Exception) -> None:
    if not self._is_reported:
      self._is_reported = True
      reason = getattr(error, 'strerror', None) or error
      print(f'{self._path}: cannot be written to: {reason}', file=sys.stderr)
