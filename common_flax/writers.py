"""What a run writes of itself: numbers, curves, pictures.

`metrics.jsonl` is the record, one JSON object a line with strictly rising
steps; TensorBoard events, `curves.png` and `samples.gif` are views of it and of
the pictures in `samples/`.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import concurrent.futures
import contextlib
import io
import json
import math
import re

from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
import PIL.Image

from common_flax import files
from common_flax import images as images_lib
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import open_whole
from common_flax.tensorboard import Board

_MAX_FRAMES = 100
_GIF_SECONDS = 6
_MAX_METRICS_BYTES = 2**31
_MAX_PICTURE_BYTES = 2**28


class RunWriter:
  """The files of a run in its workdir. Close it, or use it in `with`."""

  def __init__(
    self,
    workdir: epath.PathLike,
    step: int,
    curves: Mapping[str, Sequence[str]],
  ):
    """Opens the files and drops what they say beyond a step.

    Args:
      workdir: the run's folder, which exists.
      step: where the run goes on; 0 at a start.
      curves: titles of the panels of `curves.png`, each with its metrics.
    """
    self._workdir = epath.Path(workdir)
    self._samples = self._workdir / 'samples'
    files.make_folder(self._samples)
    self._curves = curves
    self._metrics = self._workdir / 'metrics.jsonl'
    rows = read_metrics(workdir)
    self._rows = [row for row in rows if row['step'] <= step]
    self._is_behind = False  # the file, since it could not be written
    self._write_rows()
    for path in self._pictures():
      if _picture_step(path) > step:
        path.unlink()
    self._painter = concurrent.futures.ThreadPoolExecutor(1)
    self._painting: concurrent.futures.Future | None = None
    self._board = Board(
      self._workdir / 'tensorboard', purge_step=step + 1 if rows else None
    )

  def __enter__(self) -> 'RunWriter':
    return self

  def __exit__(self, kind, *unused_exception) -> None:
    self._painter.shutdown()
    self._board.close()
    if kind is None:
      self._finish_painting()

  @property
  def rows(self) -> list[dict[str, float | None]]:
    """The metrics so far, a dict a step, steps rising."""
    return self._rows

  def text(self, name: str, text: str) -> None:
    """Shows a text in TensorBoard."""
    self._board.writer.add_text(name, text)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Records the metrics of a step, once a step."""
    if self._rows and self._rows[-1]['step'] >= step:
      return
    # JSON has no word for what is not finite but null.
    finite = {k: v for k, v in values.items() if math.isfinite(v)}
    row = {'step': step, **dict.fromkeys(values), **finite}
    self._rows.append(row)
    is_behind, self._is_behind = self._is_behind, True
    # Files of object stores do not grow at their ends.
    if is_behind or files.is_remote(self._metrics):
      self._write_rows()
    else:
      with self._metrics.open('a') as file:
        file.write(json.dumps(row) + '\n')
    self._is_behind = False
    for name, value in finite.items():
      self._board.writer.add_scalar(name, value, step)
    self._board.copy_if_due()

  def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
    """Shows how the numbers of an array lie, in TensorBoard."""
    for name, value in values.items():
      self._board.writer.add_histogram(name, np.asarray(value), step)

  def _write_rows(self) -> None:
    lines = ''.join(json.dumps(row) + '\n' for row in self._rows)
    images_lib.write_bytes(self._metrics, lines.encode())

  def picture(self, step: int, picture: np.ndarray) -> None:
    """Keeps uint8 [H, W, C] as the samples of a step."""
    png = images_lib.to_png(picture)
    images_lib.write_bytes(self._samples / f'step_{step:08d}.png', png)
    self._board.add_png('samples', png, picture.shape, step)

  def curves(self) -> None:
    """Draws `curves.png` from the metrics so far, in the background.

    An error it meets is raised by the next call, by `gif`, or at the end.
    """
    self._finish_painting()
    if self._rows:
      path, rows = self._workdir / 'curves.png', list(self._rows)
      self._painting = self._painter.submit(
        write_curves, path, rows, self._curves
      )

  def _finish_painting(self) -> None:
    if self._painting:
      self._painting.result()

  def gif(self) -> None:
    """Draws `samples.gif` from the pictures so far, evenly thinned if many."""
    self._finish_painting()
    paths = self._pictures()
    if len(paths) > _MAX_FRAMES:
      chosen = np.linspace(0, len(paths) - 1, _MAX_FRAMES).round().astype(int)
      paths = [paths[i] for i in chosen]
    frames = []
    for path in paths:
      with contextlib.suppress(OSError):  # one that something cut short
        frames.append(read_picture(path))
    if frames:
      images_lib.write_gif(self._workdir / 'samples.gif', frames, _GIF_SECONDS)

  @contextlib.contextmanager
  def trace(self) -> Iterator[None]:
    """Records what the devices do, for TensorBoard and Perfetto."""
    with self._board.trace():
      yield

  def _pictures(self) -> list[epath.Path]:
    return sorted(
      path
      for path in self._samples.glob('step_*.png')
      if re.fullmatch(r'step_\d+', path.stem)
    )


def _picture_step(path: epath.Path) -> int:
  return int(path.stem.removeprefix('step_'))


def read_metrics(workdir: epath.PathLike) -> list[dict[str, float]]:
  """The lines of `metrics.jsonl`; what is no line of metrics is left out.

  Raises:
    OSError: if the file is there and cannot be read.
  """
  path = epath.Path(workdir) / 'metrics.jsonl'
  rows = []
  if path.exists():
    text = files.read_bytes(path, _MAX_METRICS_BYTES).decode(errors='replace')
    for line in text.splitlines():
      row = _row(line)
      if row and (not rows or row['step'] > rows[-1]['step']):
        rows.append(row)
  return rows


def _row(line: str) -> dict[str, float | None] | None:
  """The metrics of a line, None if it was cut short or is not of a run."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or type(row.get('step')) is not int:
    return None
  kinds = {type(value) for value in row.values()}
  in_range = all(abs(v) < 2**63 for v in row.values() if type(v) is int)
  return row if in_range and kinds <= {int, float, type(None)} else None


def read_picture(path: epath.Path) -> PIL.Image.Image:
  """A picture of samples.

  Raises:
    OSError: naming it, if it cannot be read.
  """
  try:
    return open_whole(files.read_bytes(path, _MAX_PICTURE_BYTES))
  except (OSError, CorruptImageError) as error:
    raise OSError(f'{path}: cannot be read: {error}') from error


def write_curves(
  path: epath.PathLike,
  rows: Sequence[Mapping[str, float]],
  curves: Mapping[str, Sequence[str]],
) -> None:
  """Draws metrics over steps, a panel for each entry of `curves`."""
  # Margins by hand: to compute them takes longer than all the rest.
  width = 5 * len(curves)
  margins = {'left': 0.6 / width, 'right': 1 - 0.2 / width, 'wspace': 0.16}
  figure = Figure(figsize=(width, 3.5))
  canvas = FigureCanvasAgg(figure)
  panels = figure.subplots(
    1,
    len(curves),
    squeeze=False,
    gridspec_kw={**margins, 'bottom': 0.14, 'top': 0.91},
  )[0]
  for panel, (title, names) in zip(panels, curves.items(), strict=True):
    for name in names:
      points = [
        (row['step'], row[name]) for row in rows if row.get(name) is not None
      ]
      steps, values = zip(*points, strict=True) if points else ((), ())
      panel.plot(steps, values, label=name, linewidth=1.2)
    panel.set_title(title)
    panel.set_xlabel('step')
    panel.grid(alpha=0.3)
    panel.legend()
  buffer = io.BytesIO()
  canvas.print_png(buffer)
  images_lib.write_bytes(path, buffer.getvalue())
