"""Reports of what was measured: a table, evaluation.json, pictures.

The metrics of one checkpoint, or of all that a workdir has, to find the best.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

from absl import flags
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
import numpy as np

from common_flax import commands
from common_flax import figures
from common_flax import images as images_lib
from common_flax import references
from common_flax import terminal
from common_flax import workdir as workdir_lib
from common_flax.config import UserError
from common_flax.metrics import best

PICTURE = 'evaluation.png'  # metrics over checkpoints
NEAREST = 'nearest.png'  # samples and their nearest training images

# What columns of a table are called.
_THIS, _MEAN, _ERROR = 'this run', 'mean', 'standard error'
_BASELINES = {'real': 'real examples', 'perfect': 'perfect samples'}
_MAX_COLUMNS = 4  # of a table with a row for each seed
_PANEL = (4.0, 2.6)  # inches
# In the names of what says how far another number may be off: no panels.
_ERRORS = ('standard_error', 'standard_deviation')


class Measured(NamedTuple):
  """What was measured of one checkpoint."""

  metrics: dict[str, Any]  # numbers, or lists and dicts of them
  provenance: dict[str, Any]
  picture: np.ndarray | None = None  # of samples and nearest training images


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of every command that evaluates a run."""
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'split', 'test', 'Of the real examples.', flag_values=values
  )
  flags.DEFINE_list(
    'metrics', [], 'Names, see above; all by default.', flag_values=values
  )
  flags.DEFINE_boolean(
    'all_checkpoints',
    False,
    'Measure every checkpoint, and name the best.',
    flag_values=values,
  )
  references.define_flags(values)


def evaluate(
  values: flags.FlagValues,
  measure: Callable[[int | None], Measured],
  title: str,
) -> None:
  """Measures a run's checkpoints as the flags say, and reports.

  Args:
    values: with the flags of `define_flags`.
    measure: measures the checkpoint of a step, None for the newest.
    title: of the table.

  Raises:
    UserError: if there is no checkpoint, or the report cannot be written.
  """
  workdir = commands.existing_workdir(values)
  if not values.all_checkpoints:
    _report(workdir, measure(values.step), title)
    return
  if values.step is not None:
    raise UserError('--step: is one, and --all_checkpoints asks for all')
  found = _measure_all(workdir, measure)
  newest = found[max(found)]
  name = _decisive(values.metrics, newest.metrics)
  winner = best.best_step(
    {k: v.metrics.get(name) for k, v in found.items()}, name
  )
  rows = [{'step': step, **_numbers(m.metrics)} for step, m in found.items()]
  newest = newest._replace(
    provenance={**newest.provenance, 'best_step': winner, 'checkpoints': rows}
  )
  _report(workdir, newest, title)
  _write(workdir / PICTURE, draw(rows, newest.metrics))
  print(f'Best by {name}: --step={winner}. All of them: {workdir / PICTURE}')


def _decisive(named: Sequence[str], metrics: Mapping[str, Any]) -> str:
  """What checkpoints are compared by: the first of the metrics named."""
  wanted = best.decisive(named[0]) if named else None
  return wanted if wanted in metrics else next(iter(metrics))


def _measure_all(
  workdir: epath.Path, measure: Callable[[int | None], Measured]
) -> dict[int, Measured]:
  """What was measured, by step; checkpoints of no use are named.

  Raises:
    UserError: if there is none of use.
  """
  with workdir_lib.open_checkpoints(workdir) as checkpoints:
    steps = checkpoints.steps()
  found, problem = {}, UserError(f'{workdir}: holds no checkpoint; train first')
  for step in terminal.track(steps, len(steps), 'Checkpoints'):
    try:
      found[step] = measure(step)
    except UserError as error:
      print(f'step {step:,}  left out: {error}')
      problem = error
      continue
    _print_line(step, found[step].metrics)
  if not found:
    raise problem
  return found


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
  return {k: v for k, v in metrics.items() if not isinstance(v, list)}


def _names(metrics: Mapping[str, Any]) -> list[str]:
  """What a table shows; of each class and each latent the file tells."""
  beside = tuple(f'{name}_' for name in _BASELINES)
  return [
    name
    for name in _numbers(metrics)
    if not name.startswith(beside) and not name.endswith('_standard_error')
  ]


def _print_line(step: int, metrics: Mapping[str, Any]) -> None:
  numbers = (f'{n} {terminal.number(metrics[n])}' for n in _names(metrics))
  print(f'step {step:,}  ' + '  '.join(numbers))


def print_metrics(
  metrics: Mapping[str, Any],
  title: str,
  this: str = _THIS,
  baselines: Mapping[str, str] = _BASELINES,
) -> None:
  """Prints metrics, beside them what real and perfect samples score.

  Args:
    metrics: by name; those of a baseline are called `real_...` or
      `perfect_...`, and of several seeds `seeds` has those of each.
    title: of the table.
    this: what to call what was measured.
    baselines: what to call the baselines, by prefix.
  """
  names = _names(metrics)
  seeds = metrics.get('seeds', [])
  columns = {f'seed {row["seed"]}': row for row in seeds}
  columns[_MEAN if seeds else this] = metrics
  if seeds:
    columns[_ERROR] = _with_affix(metrics, '', '_standard_error')
  for prefix, words in baselines.items():
    column = _with_affix(metrics, f'{prefix}_', '')
    if any(name in column for name in names):
      columns[words] = column
  if seeds and len(names) <= _MAX_COLUMNS:  # a row for each seed
    rows = {
      words: [column.get(name) for name in names]
      for words, column in columns.items()
    }
    terminal.print_table(title, ('', *names), rows)
    return
  columns = {k: v for k, v in columns.items() if not k.startswith('seed ')}
  rows = {
    name: [column.get(name) for column in columns.values()] for name in names
  }
  terminal.print_table(title, ('', *columns), rows)


def _with_affix(
  metrics: Mapping[str, Any], prefix: str, suffix: str
) -> dict[str, Any]:
  """The metrics whose names have the affix, without it."""
  return {
    name.removeprefix(prefix).removesuffix(suffix): value
    for name, value in metrics.items()
    if name.startswith(prefix) and name.endswith(suffix)
  }


def _report(workdir: epath.Path, measured: Measured, title: str) -> None:
  step = measured.provenance['checkpoint_step']
  print_metrics(measured.metrics, f'{title}, step {step:,}')
  if measured.picture is not None:
    _write(workdir / NEAREST, measured.picture)
  path = workdir_lib.write_evaluation(
    workdir, measured.metrics, measured.provenance
  )
  seconds = terminal.duration(measured.provenance['seconds'])
  print(f'In {seconds}. All numbers: {path}')


def _write(path: epath.Path, picture: np.ndarray) -> None:
  with workdir_lib.writing(str(path)):
    images_lib.write_png(path, picture)


def draw(
  rows: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]
) -> np.ndarray:
  """Each metric over steps, uint8 [H, W, 3]; a dashed line for real examples.

  Args:
    rows: `step` and metrics of each checkpoint.
    metrics: of one of them, with those of real examples.
  """
  names = [n for n in _names(metrics) if not any(e in n for e in _ERRORS)]
  across = min(3, len(names))
  down = -(-len(names) // across)
  figure = figures.create_figure(_PANEL[0] * across, _PANEL[1] * down)
  panels = figure.subplots(down, across, squeeze=False).ravel()
  steps = [row['step'] for row in rows]
  for panel in panels[len(names) :]:
    panel.set_axis_off()
  for panel, name in zip(panels, names, strict=False):
    values = [row.get(name) for row in rows]
    known = [math.nan if value is None else value for value in values]
    panel.plot(steps, known, marker='o', color=figures.COLOURS[0])
    winner = best.best_step(dict(zip(steps, values, strict=True)), name)
    if winner is not None:
      panel.axvline(winner, color=figures.GREY, linewidth=0.8, label='best')
    if f'real_{name}' in metrics:
      real = metrics[f'real_{name}']
      colour = figures.COLOURS[1]
      panel.axhline(
        real, color=colour, linestyle='--', label=_BASELINES['real']
      )
    figures.finish(panel, name.replace('_', ' '), 'step')
  if panels[0].get_legend_handles_labels()[1]:
    panels[0].legend(fontsize=8, frameon=False)
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]
