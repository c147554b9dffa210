"""What TensorBoard shows of a run; a run can do without.

Its files grow at their ends, which those of object stores cannot: events of a
workdir there are written on this machine, and copied every few minutes.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import pathlib
import tempfile
import time
from typing import Any

from etils import epath
import jax

from common_flax import files
from common_flax import startup

with startup.without('torch'):  # seconds, for the name of a type
  from tensorboardX import SummaryWriter
  from tensorboardX.proto.summary_pb2 import Summary

_COPY_SECONDS = 120


class Board:
  """The folder of TensorBoard's files. Close it."""

  def __init__(self, folder: epath.PathLike, purge_step: int | None):
    """Opens the folder.

    Args:
      folder: made if missing.
      purge_step: what earlier events say from this step on no longer counts.
    """
    self._folder = epath.Path(folder)
    self._local, self._copied = str(folder), time.monotonic()
    if files.is_remote(folder):
      self._temporary = tempfile.TemporaryDirectory()
      self._local = self._temporary.name
    self.writer = SummaryWriter(self._local, purge_step=purge_step)
    _forgive(self.writer)

  def add_png(
    self, name: str, png: bytes, shape: tuple[int, int, int], step: int
  ) -> None:
    """Shows a picture [H, W, C], encoded: to encode it again takes a while."""
    height, width, channels = shape
    image = Summary.Image(
      height=height,
      width=width,
      colorspace=channels,  # 1 is grey, 3 is RGB
      encoded_image_string=png,
    )
    summary = Summary(value=[Summary.Value(tag=name, image=image)])
    self.writer._get_file_writer().add_summary(summary, step)

  def copy_if_due(self) -> None:
    """Copies what was written, if that is not where it belongs."""
    if time.monotonic() - self._copied > _COPY_SECONDS:
      self._copy()

  def _copy(self) -> None:
    if not files.is_remote(self._folder):
      return
    self.writer.flush()
    self._copied = time.monotonic()
    root = pathlib.Path(self._local)
    try:
      for file in root.rglob('*'):
        if file.is_file():
          target = self._folder / str(file.relative_to(root))
          target.write_bytes(file.read_bytes())
    except Exception as error:
      if not files.is_file_error(error):
        raise

  @contextlib.contextmanager
  def trace(self) -> Iterator[None]:
    """Records what the devices do, for TensorBoard and Perfetto."""
    with jax.profiler.trace(self._local, create_perfetto_trace=True):
      yield
    self._copy()

  def close(self) -> None:
    with contextlib.suppress(OSError):
      self.writer.close()
    self._copy()


def _forgive(writer: SummaryWriter) -> None:
  """Lets the writer do without what cannot be written.

  Its thread would end at an error, and the next events wait for it for ever.
  """
  events = writer._get_file_writer().event_writer._ev_writer
  for name in ('write_event', 'flush'):
    setattr(events, name, _forgiving(getattr(events, name)))


def _forgiving(write: Callable[..., Any]) -> Callable[..., None]:
  def forgiving(*arguments):
    with contextlib.suppress(OSError, ValueError):  # which a closed file raises
      write(*arguments)

  return forgiving
