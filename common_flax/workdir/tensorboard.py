"""TensorBoard's view of a run, which the run can do without.

Events are appended to files, which objects of a store do not allow: for a
workdir in a store they are written to a temporary folder and copied every few
minutes.
"""

from collections.abc import Iterator
import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import socket
import tempfile
import time

from etils import epath
import jax
import numpy as np

from common_flax import files
from common_flax.cpu import startup

# tensorboardX imports PyTorch wherever that is installed, which takes seconds;
# it has no option against it.
with startup.without('torch'):
  from tensorboardX import RecordWriter
  from tensorboardX import summary as summary_lib
  from tensorboardX.proto.event_pb2 import Event
  from tensorboardX.proto.event_pb2 import SessionLog
  from tensorboardX.proto.summary_pb2 import Summary

_COPY_SECONDS = 120
_FLUSH_SECONDS = 10
_FILE_VERSION = 'brain.Event:2'
_HISTOGRAM_BINS = 30  # as many as TensorBoard draws

_numbers = itertools.count()  # of this process's files


class Board:
  """Writes event files from a background thread. Close it.

  tensorboardX's own writer would hang: an error ends its thread, and its queue
  then fills up. Here an event that cannot be written is dropped.
  """

  def __init__(self, folder: epath.PathLike, purge_step: int | None):
    """Opens an event file.

    Args:
      folder: made if missing.
      purge_step: earlier events from this step on are hidden; None hides none.

    Raises:
      OSError: if the file cannot be made.
    """
    self._folder = epath.Path(folder)
    self._local, self._copied = pathlib.Path(folder), time.monotonic()
    if files.is_remote(folder):
      self._temporary = tempfile.TemporaryDirectory()
      self._local = pathlib.Path(self._temporary.name)
    self._local.mkdir(parents=True, exist_ok=True)
    self._records = RecordWriter(str(self._local / _file_name()))
    self._flushed = 0.0  # when, by the monotonic clock
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._add(Event(file_version=_FILE_VERSION))
    if purge_step is not None:
      start = SessionLog(status=SessionLog.START)
      self._add(Event(session_log=start, step=purge_step))

  def add_scalar(self, name: str, value: float, step: int) -> None:
    """Adds a point to a curve."""
    self._add(Event(summary=summary_lib.scalar(name, value), step=step))

  def add_histogram(self, name: str, values: np.ndarray, step: int) -> None:
    """Adds a histogram of the finite values, if there are any."""
    finite = values[np.isfinite(values)]
    if finite.size:
      histogram = summary_lib.histogram(name, finite, _HISTOGRAM_BINS)
      self._add(Event(summary=histogram, step=step))

  def add_text(self, name: str, text: str) -> None:
    """Adds a Markdown text."""
    self._add(Event(summary=summary_lib.text(name, text)))

  def add_png(
    self, name: str, png: bytes, shape: tuple[int, int, int], step: int
  ) -> None:
    """Adds a picture [H, W, C] that is encoded already."""
    height, width, channels = shape
    image = Summary.Image(
      height=height,
      width=width,
      colorspace=channels,  # 1 is grey, 3 is RGB
      encoded_image_string=png,
    )
    summary = Summary(value=[Summary.Value(tag=name, image=image)])
    self._add(Event(summary=summary, step=step))

  def _add(self, event: Event) -> None:
    event.wall_time = time.time()
    self._thread.submit(self._write, event.SerializeToString())

  def _write(self, event: bytes) -> None:
    with contextlib.suppress(OSError):
      self._records.write(event)
      if time.monotonic() - self._flushed > _FLUSH_SECONDS:
        self._flushed = time.monotonic()
        self._records.flush()

  def copy_if_due(self) -> None:
    """Copies the events to the store every few minutes."""
    if time.monotonic() - self._copied > _COPY_SECONDS:
      self._copy()

  def _copy(self) -> None:
    if not files.is_remote(self._folder):
      return
    self._copied = time.monotonic()
    with contextlib.suppress(OSError):
      self._thread.submit(self._records.flush).result()
    try:
      for file in self._local.rglob('*'):
        if file.is_file():
          target = self._folder / str(file.relative_to(self._local))
          target.write_bytes(file.read_bytes())
    except Exception as error:
      if not files.is_file_error(error):
        raise

  @contextlib.contextmanager
  def trace(self) -> Iterator[None]:
    """Profiles the devices, for TensorBoard and Perfetto."""
    with jax.profiler.trace(str(self._local), create_perfetto_trace=True):
      yield
    self._copy()

  def close(self) -> None:
    """Writes what is left, and copies it."""
    self._copy()
    self._thread.shutdown()
    with contextlib.suppress(OSError):
      self._records.close()


def _file_name() -> str:
  """TensorBoard reads the files of a folder in the order of their names."""
  return (
    f'events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}'
    f'.{os.getpid()}.{next(_numbers):06}'
  )
