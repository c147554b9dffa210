"""Files that a run writes: metrics, curves, pictures.

`metrics.jsonl` is the record: one JSON object per line, with strictly
increasing steps. TensorBoard events, `curves.png` and `samples.gif` are views
of it and of the pictures in `samples/`.
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
from ml_collections import ConfigDict
import numpy as np
import PIL.Image

from common_flax import files
from common_flax import images as images_lib
from common_flax.config import TENSORBOARD
from common_flax.data.decode import CorruptImageError
from common_flax.data.decode import open_whole
from common_flax.workdir import stored_config
from common_flax.workdir.tensorboard import Board
from common_flax.workdir.trackers import Trackers

_MAX_FRAMES = 100
_GIF_SECONDS = 6
_MAX_METRICS_BYTES = 2**31
_MAX_PICTURE_BYTES = 2**28
_MAX_DAMAGED_SHOWN = 3  # lines of metrics.jsonl, by number


class RunWriter:
  """The files of a run in its workdir. Close it, or use it in `with`."""

  def __init__(
    self,
    workdir: epath.PathLike,
    step: int,
    config: ConfigDict | None = None,
  ):
    """Opens the files and drops what they say beyond a step.

    Args:
      workdir: the run's folder, which exists.
      step: where the run goes on; 0 at a start.
      config: the run's config.
    """
    self._workdir = epath.Path(workdir)
    self._samples = self._workdir / 'samples'
    files.make_folder(self._samples)
    self._metrics = self._workdir / 'metrics.jsonl'
    rows = read_rows(workdir)
    told = [row['step'] for row in rows]
    told += [_picture_step(path) for path in self._pictures()]
    self._rows = [row for row in rows if row['step'] <= step]
    self._is_behind = False  # whether metrics.jsonl lacks rows
    self._write_rows()
    for path in self._pictures():
      if _picture_step(path) > step:
        path.unlink()
    self._painter = concurrent.futures.ThreadPoolExecutor(1)
    self._painting: concurrent.futures.Future | None = None
    self._board: Board | None = None
    self._trackers: Trackers | None = None
    if config is None or TENSORBOARD in config.trackers:
      self._board = self._open_board(step + 1 if rows else None)
    if config is not None:
      self._trackers = Trackers(config, workdir, max(told, default=None))
      if self._board and not step:
        text = stored_config.to_json(config)
        self._board.add_text('config', f'```\n{text}```')

  def _open_board(self, purge_step: int | None) -> Board:
    return Board(self._workdir / 'tensorboard', purge_step)

  def __enter__(self) -> 'RunWriter':
    return self

  def __exit__(self, kind, *unused_exception) -> None:
    self._painter.shutdown()
    if self._board:
      self._board.close()
    if self._trackers:
      self._trackers.close(has_failed=kind is not None)
    if kind is None:
      self._finish_painting()

  @property
  def rows(self) -> list[dict[str, float | None]]:
    """The metrics so far: one dict per step, in ascending order."""
    return self._rows

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Records the metrics of a step; a repeated step is ignored."""
    if self._rows and self._rows[-1]['step'] >= step:
      return
    # JSON has no NaN; values that are not finite become null.
    finite = {k: v for k, v in values.items() if math.isfinite(v)}
    row = {'step': step, **dict.fromkeys(values), **finite}
    self._rows.append(row)
    is_behind, self._is_behind = self._is_behind, True
    # Objects cannot be appended to, and a failed write left rows out.
    if is_behind or files.is_remote(self._metrics):
      self._write_rows()
    else:
      with self._metrics.open('a') as file:
        file.write(json.dumps(row) + '\n')
    self._is_behind = False
    if self._board:
      for name, value in finite.items():
        self._board.add_scalar(name, value, step)
      self._board.copy_if_due()
    if self._trackers:
      self._trackers.scalars(step, finite)

  def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
    """Adds histograms of arrays to TensorBoard."""
    for name, value in values.items() if self._board else ():
      self._board.add_histogram(name, np.asarray(value), step)

  def _write_rows(self) -> None:
    lines = ''.join(json.dumps(row) + '\n' for row in self._rows)
    files.write_bytes(self._metrics, lines.encode())

  def picture(self, step: int, picture: np.ndarray) -> None:
    """Writes uint8 [H, W, C] as the samples of a step."""
    png = images_lib.to_png(picture)
    files.write_bytes(self._samples / f'step_{step:08d}.png', png)
    if self._board:
      self._board.add_png('samples', png, picture.shape, step)
    if self._trackers:
      self._trackers.picture(step, png)

  def curves(self, panels: Mapping[str, Sequence[str]]) -> None:
    """Draws `curves.png` from the metrics so far, in the background.

    An error it meets is raised by the next call, by `gif`, or at the end.

    Args:
      panels: titles, each with the metrics drawn in that panel.
    """
    self._finish_painting()
    if self._rows:
      path, rows = self._workdir / 'curves.png', list(self._rows)
      self._painting = self._painter.submit(write_curves, path, rows, panels)

  def _finish_painting(self) -> None:
    if self._painting:
      self._painting.result()

  def gif(self) -> None:
    """Draws `samples.gif` from at most 100 of the pictures, evenly spaced."""
    self._finish_painting()
    paths = self._pictures()
    if len(paths) > _MAX_FRAMES:
      chosen = np.linspace(0, len(paths) - 1, _MAX_FRAMES).round().astype(int)
      paths = [paths[i] for i in chosen]
    frames = []
    for path in paths:
      try:
        frames.append(read_picture(path))
      except OSError as error:
        print(f'{error}; left out of samples.gif.')
    if frames:
      images_lib.write_gif(self._workdir / 'samples.gif', frames, _GIF_SECONDS)

  @contextlib.contextmanager
  def trace(self) -> Iterator[None]:
    """Profiles the devices, for TensorBoard and Perfetto."""
    with contextlib.ExitStack() as stack:
      board = self._board
      if board is None:
        board = self._open_board(None)
        stack.callback(board.close)
      with board.trace():
        yield

  def _pictures(self) -> list[epath.Path]:
    return sorted(
      path
      for path in self._samples.glob('step_*.png')
      if re.fullmatch(r'step_\d+', path.stem)
    )


def _picture_step(path: epath.Path) -> int:
  return int(path.stem.removeprefix('step_'))


def read_rows(workdir: epath.PathLike) -> list[dict[str, float]]:
  """Reads the rows of `metrics.jsonl`; leaves damaged lines out, and says so.

  Raises:
    OSError: if the file exists but cannot be read.
  """
  path = epath.Path(workdir) / 'metrics.jsonl'
  if not path.exists():
    return []
  rows, damaged = [], []
  text = files.read_bytes(path, _MAX_METRICS_BYTES).decode(errors='replace')
  lines = text.split('\n')
  for number, line in enumerate(lines, 1):
    row = _row(line)
    if row and (not rows or row['step'] > rows[-1]['step']):
      rows.append(row)
    elif number < len(lines):  # a last line without an end was cut by a kill
      damaged.append(number)
  if damaged:
    print(_left_out(path, damaged))
  return rows


def _left_out(path: epath.Path, damaged: list[int]) -> str:
  """What to print about damaged lines."""
  shown = ', '.join(map(str, damaged[:_MAX_DAMAGED_SHOWN]))
  more = ', ...' if len(damaged) > _MAX_DAMAGED_SHOWN else '.'
  lines = 'line is' if len(damaged) == 1 else 'lines are'
  return f'{path}: {len(damaged):,} damaged {lines} left out: {shown}{more}'


def _row(line: str) -> dict[str, float | None] | None:
  """Parses a line; None if it is truncated or no row of metrics."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  if not isinstance(row, dict) or type(row.get('step')) is not int:
    return None
  types = {type(value) for value in row.values()}
  in_range = all(abs(v) < 2**63 for v in row.values() if type(v) is int)
  return row if in_range and types <= {int, float, type(None)} else None


def read_picture(path: epath.Path) -> PIL.Image.Image:
  """Reads a picture of samples.

  Raises:
    OSError: naming the picture, if it cannot be read.
  """
  try:
    return open_whole(files.read_bytes(path, _MAX_PICTURE_BYTES))
  except Exception as error:  # each store raises its own types
    if not (files.is_file_error(error) or isinstance(error, CorruptImageError)):
      raise
    raise OSError(f'{path}: cannot be read: {error}') from error


def write_curves(
  path: epath.PathLike,
  rows: Sequence[Mapping[str, float]],
  curves: Mapping[str, Sequence[str]],
) -> None:
  """Draws metrics over steps.

  Args:
    path: PNG file to write.
    rows: rows of `metrics.jsonl`.
    curves: titles of the panels, each with the names of its metrics.
  """
  # A layout engine would take longer than everything else.
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
    panel.legend(loc='best')  # named, else Matplotlib warns of its slowness
  buffer = io.BytesIO()
  canvas.print_png(buffer)
  files.write_bytes(path, buffer.getvalue())
