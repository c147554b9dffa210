"""Evaluates checkpoints and reports: a table, evaluation.json, pictures.

Evaluates one checkpoint of a workdir, or all of them to find the best.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

from absl import flags
from etils import epath
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
import numpy as np

from common_flax import images as images_lib
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import plotting
from common_flax.cli import sample_files
from common_flax.cli import terminal
from common_flax.errors import UserError
from common_flax.evaluation import reference_sets
from common_flax.evaluation import selection
from common_flax.evaluation.protocol import Scores
from common_flax.progress import track
from common_flax.report import page
from common_flax.workdir import layout as workdir_lib

CURVES = 'evaluation.png'  # metrics over checkpoints
NEAREST = 'nearest.png'  # samples beside their nearest training images

# Headings of a table.
_THIS, _MEAN, _ERROR = 'this run', 'mean', 'standard error'
_BASELINES = {'real': 'real examples', 'perfect': 'perfect samples'}
_MAX_COLUMNS = 4  # metrics in a table with a row per seed
_PANEL = (4.0, 2.6)  # inches
# Metrics whose names contain these are uncertainties, and get no panel.
_UNCERTAINTIES = ('standard_error', 'standard_deviation')


class Evaluation(NamedTuple):
  """The evaluation of one checkpoint."""

  metrics: dict[str, Any]  # numbers, or lists and dicts of them
  provenance: dict[str, Any]  # what the metrics depend on
  # Samples beside their nearest training images, uint8 [H, W, C].
  picture: np.ndarray | None = None


def define_flags(values: flags.FlagValues) -> None:
  """Defines the flags of every command that evaluates a run."""
  commands.define_run_flags(values)
  flags.DEFINE_string(
    'split',
    'test',
    'Split of the real examples to compare with.',
    flag_values=values,
  )
  flags.DEFINE_list(
    'metrics',
    [],
    'Names of metrics, see above; all by default.',
    flag_values=values,
  )
  flags.DEFINE_boolean(
    'all_checkpoints',
    False,
    'Evaluate every checkpoint and name the best.',
    flag_values=values,
  )
  flags.DEFINE_string(
    'save_samples',
    None,
    'FILE.npz to write the samples to that are scored.',
    flag_values=values,
  )
  reference_sets.define_flags(values)


def check_flags(values: flags.FlagValues) -> None:
  """Checks flags that exclude each other, and --save_samples, before any work.

  Raises:
    UserError: naming the flag to change.
  """
  if values.all_checkpoints and values.step is not None:
    raise UserError('--step: names one checkpoint; drop --all_checkpoints')
  if values.save_samples:
    outputs.check(values.save_samples, ['.npz'], flag='--save_samples')
    if values.all_checkpoints:
      raise UserError(
        f'--save_samples={values.save_samples}: holds the samples of one '
        'checkpoint; drop --all_checkpoints, and name it with --step'
      )


def save_samples(
  values: flags.FlagValues,
  name: str,
  scores: Sequence[Scores],
  class_names: Sequence[str] | None = None,
) -> None:
  """Writes the samples that were scored to --save_samples, if it was given.

  Args:
    values: with the flags of `define_flags`.
    name: of the array, `images` or `points`.
    scores: one for each seed; several give the array a leading axis.
    class_names: names of the labels, if the samples have any.

  Raises:
    UserError: if the file cannot be written.
  """
  if values.save_samples is None:
    return
  samples = [each.samples for each in scores]
  sample_files.write_arrays(
    values.save_samples,
    name,
    np.stack(samples) if len(samples) > 1 else samples[0],
    scores[0].labels,
    class_names,
    flag='--save_samples',
  )


def evaluate_run(
  values: flags.FlagValues,
  evaluate_checkpoint: Callable[[int | None], Evaluation],
  title: str,
) -> None:
  """Evaluates the checkpoints that the flags select, and reports the results.

  Args:
    values: with the flags of `define_flags`, which `check_flags` accepted.
    evaluate_checkpoint: evaluates the checkpoint of a step, None for the
      newest.
    title: of the table.

  Raises:
    UserError: if there is no checkpoint, or the report cannot be written.
  """
  workdir = commands.existing_workdir(values)
  if not values.all_checkpoints:
    _report(workdir, evaluate_checkpoint(values.step), title)
    return
  evaluations = _evaluate_all(workdir, evaluate_checkpoint)
  newest = evaluations[max(evaluations)]
  name = _criterion(values.metrics, newest.metrics)
  best_step = selection.best_step(
    {step: e.metrics.get(name) for step, e in evaluations.items()}, name
  )
  rows = [
    {'step': step, **_numbers(e.metrics)} for step, e in evaluations.items()
  ]
  newest = newest._replace(
    provenance={
      **newest.provenance,
      'best_step': best_step,
      'checkpoints': rows,
    }
  )
  _write(workdir / CURVES, draw_curves(rows, newest.metrics))
  _report(workdir, newest, title)
  print(f'Best by {name}: --step={best_step}. Curves: {workdir / CURVES}')


def _criterion(requested: Sequence[str], metrics: Mapping[str, Any]) -> str:
  """The number that compares checkpoints: that of the first metric requested.

  The first number of all if nothing was requested, or if it is missing.
  """
  wanted = selection.criterion(requested[0]) if requested else None
  return wanted if wanted in metrics else next(iter(metrics))


def _evaluate_all(
  workdir: epath.Path,
  evaluate_checkpoint: Callable[[int | None], Evaluation],
) -> dict[int, Evaluation]:
  """Evaluations by step; prints which checkpoints are unusable.

  Raises:
    UserError: if no checkpoint is usable.
  """
  with workdir_lib.open_checkpoints(workdir) as checkpoints:
    steps = checkpoints.steps()
  evaluations = {}
  problem = UserError(f'{workdir}: holds no checkpoint; train first')
  for step in track(steps, len(steps), 'Checkpoints'):
    try:
      evaluations[step] = evaluate_checkpoint(step)
    except UserError as error:
      print(f'step {step:,}  skipped: {error}')
      problem = error
      continue
    _print_line(step, evaluations[step].metrics)
  if not evaluations:
    raise problem
  return evaluations


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
  return {k: v for k, v in metrics.items() if not isinstance(v, list)}


def _names(metrics: Mapping[str, Any]) -> list[str]:
  """Metrics that a table shows; lists, per class or latent, are in the file."""
  prefixes = tuple(f'{name}_' for name in _BASELINES)
  return [
    name
    for name in _numbers(metrics)
    if not name.startswith(prefixes) and not name.endswith('_standard_error')
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
  """Prints metrics beside the scores of the baselines.

  Args:
    metrics: by name. A baseline's names have a prefix, `real_` or `perfect_`;
      with several seeds, `seeds` lists the metrics of each.
    title: of the table.
    this: heading of the metrics.
    baselines: headings of the baselines, by prefix.
  """
  names = _names(metrics)
  seeds = metrics.get('seeds', [])
  columns = {f'seed {row["seed"]}': row for row in seeds}
  columns[_MEAN if seeds else this] = metrics
  if seeds:
    columns[_ERROR] = _with_affix(metrics, '', '_standard_error')
  for prefix, heading in baselines.items():
    column = _with_affix(metrics, f'{prefix}_', '')
    if any(name in column for name in names):
      columns[heading] = column
  if seeds and len(names) <= _MAX_COLUMNS:  # a row per seed
    rows = {
      heading: [column.get(name) for name in names]
      for heading, column in columns.items()
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
  """The metrics whose names have the prefix and suffix, which are removed."""
  return {
    name.removeprefix(prefix).removesuffix(suffix): value
    for name, value in metrics.items()
    if name.startswith(prefix) and name.endswith(suffix)
  }


def _report(workdir: epath.Path, evaluation: Evaluation, title: str) -> None:
  metrics, provenance, picture = evaluation
  print_metrics(metrics, f'{title}, step {provenance["checkpoint_step"]:,}')
  if picture is not None:
    _write(workdir / NEAREST, picture)
  path = workdir_lib.write_evaluation(workdir, metrics, provenance)
  seconds = terminal.duration(provenance['seconds'])
  print(f'Evaluated in {seconds}. All numbers: {path}')
  page.refresh(workdir)


def _write(path: epath.Path, picture: np.ndarray) -> None:
  with workdir_lib.writing(str(path)):
    images_lib.write_png(path, picture)


def draw_curves(
  rows: Sequence[Mapping[str, float]], metrics: Mapping[str, Any]
) -> np.ndarray:
  """Draws each metric over steps, with a dashed line for real examples.

  Args:
    rows: `step` and metrics of each checkpoint.
    metrics: of one checkpoint, with those of real examples.

  Returns:
    uint8 [H, W, 3].
  """
  names = [
    name
    for name in _names(metrics)
    if not any(word in name for word in _UNCERTAINTIES)
  ]
  num_columns = min(3, len(names))
  num_rows = -(-len(names) // num_columns)
  figure = plotting.create_figure(_PANEL[0] * num_columns, _PANEL[1] * num_rows)
  panels = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
  for panel in panels[len(names) :]:
    panel.set_axis_off()
  for panel, name in zip(panels, names, strict=False):
    _draw_curve(panel, name, rows, metrics.get(f'real_{name}'))
  if panels[0].get_legend_handles_labels()[1]:
    panels[0].legend(loc='best', fontsize=8, frameon=False)
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3]


def _draw_curve(
  panel: Axes,
  name: str,
  rows: Sequence[Mapping[str, float]],
  real: float | None,
) -> None:
  """Draws one metric over steps, its best value and that of real examples."""
  values = {row['step']: row.get(name) for row in rows}
  heights = [math.nan if v is None else v for v in values.values()]
  panel.plot(list(values), heights, marker='o', color=plotting.COLOURS[0])
  best_step = selection.best_step(values, name)
  if best_step is not None:
    panel.axvline(best_step, color=plotting.GREY, linewidth=0.8, label='best')
  if real is not None:
    panel.axhline(
      real,
      color=plotting.COLOURS[1],
      linestyle='--',
      label=_BASELINES['real'],
    )
  plotting.finish(panel, name.replace('_', ' '), 'step')
