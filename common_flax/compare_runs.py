"""Draws runs side by side: their samples, and metrics over steps.

  python -m common_flax.compare_runs --workdirs=DIR,DIR[,...] --output=FILE.png
      [--metrics=NAME,NAME]

Each run is named by its folder and by the fields of its config in which the
runs differ.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import io
import os
import pathlib
import re
import sys
from typing import Any

from absl import flags
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from common_flax import commands
from common_flax import figures
from common_flax import files
from common_flax import sample_files
from common_flax import writers
from common_flax.config import UserError
from common_flax.workdir import CONFIG

_WIDTH = 3.6  # inches, of a picture of samples
_HEIGHT = 2.4  # of a panel of metrics
_MAX_METRICS = 3  # drawn where none are named


class Run:
  """What a workdir shows of its run."""

  def __init__(self, workdir: str):
    """Reads a workdir.

    Raises:
      UserError: if it holds no run with samples and metrics.
    """
    path = epath.Path(os.path.expanduser(workdir))
    self.name = figures.plain(path.name)
    self.fields = _read_fields(path / CONFIG)
    try:
      self.rows = writers.read_metrics(path)
      pictures = [
        picture
        for picture in sorted((path / 'samples').glob('step_*.png'))
        if re.fullmatch(r'step_\d{1,18}', picture.stem)
      ]
      if not self.rows or not pictures:
        raise UserError(
          f'--workdirs={workdir}: has no samples yet; train first'
        )
      picture = writers.read_picture(pictures[-1])
    except OSError as error:
      raise UserError(f'--workdirs={workdir}: {error}') from error
    self.samples = np.asarray(picture.convert('RGB'))
    self.step = int(pictures[-1].stem.removeprefix('step_'))

  def series(self, metric: str) -> tuple[list[int], list[float]]:
    """The steps at which a metric is known, and its values."""
    rows = [row for row in self.rows if row.get(metric) is not None]
    return [row['step'] for row in rows], [row[metric] for row in rows]


def _read_fields(path: epath.Path) -> dict[str, Any]:
  """{'dataset.name': 'digits', ...} of a config.json."""

  def flatten(config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
      if isinstance(value, Mapping):
        flat |= flatten(value, f'{prefix}{name}.')
      else:
        flat[f'{prefix}{name}'] = value
    return flat

  if not path.exists():
    raise UserError(f'{path}: no such file; is {path.parent} a workdir?')
  try:
    return flatten(files.read_json(path), '')
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read: {error}') from error


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """Of each run the fields in which the runs differ, and its values.

  A field that a config lacks is None there, as a field that is not set.
  """
  names = {name for run in runs for name in run.fields}
  different = [
    name
    for name in sorted(names)
    if any(run.fields.get(name) != runs[0].fields.get(name) for run in runs)
  ]
  return [{name: run.fields.get(name) for name in different} for run in runs]


def _choose_metrics(
  runs: Sequence[Run], metrics: Sequence[str]
) -> Sequence[str]:
  """The metrics to draw, which all runs have.

  Raises:
    UserError: naming one that a run does not have.
  """
  known = [name for name in runs[0].rows[-1] if name != 'step']
  shared = [n for n in known if all(run.series(n)[0] for run in runs)]
  for name in metrics:
    if name not in shared:
      raise UserError(
        f'--metrics={name}: is not measured in all runs; take some of '
        f'{", ".join(shared)}'
      )
  return metrics or shared[:_MAX_METRICS]


def draw(runs: Sequence[Run], metrics: Sequence[str]) -> Figure:
  """Samples of runs in a row, metrics over steps below."""
  width = _WIDTH * len(runs)
  heights = (_WIDTH * 1.1, _HEIGHT)
  figure = figures.create_figure(width, sum(heights))
  top, bottom = figure.subfigures(2, height_ratios=heights)
  panels = top.subplots(1, len(runs), squeeze=False)[0]
  for panel, run, fields in zip(panels, runs, differences(runs), strict=True):
    panel.imshow(run.samples, interpolation='nearest')
    panel.set_axis_off()
    lines = [f'{run.name}, step {run.step:,}']
    lines += [
      figures.plain(f'{name} = {value}') for name, value in fields.items()
    ]
    panel.set_title('\n'.join(lines), fontsize=9)
  panels = bottom.subplots(1, len(metrics), squeeze=False)[0]
  for panel, metric in zip(panels, metrics, strict=True):
    for run, colour in zip(runs, _colours(len(runs)), strict=True):
      panel.plot(*run.series(metric), label=run.name, color=colour)
    figures.finish(panel, figures.plain(metric), 'step')
  panels[0].legend(fontsize=8, frameon=False)
  return figure


def _colours(num: int) -> list[str]:
  return [figures.COLOURS[i % len(figures.COLOURS)] for i in range(num)]


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_list(
    'workdirs', [], 'Folders of two or more runs.', flag_values=values
  )
  flags.DEFINE_string('output', None, 'FILE.png', flag_values=values)
  flags.DEFINE_list(
    'metrics',
    [],
    'Names from metrics.jsonl; by default the first ones.',
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdirs', 'output')
  if len(values.workdirs) < 2:
    raise UserError(
      f'--workdirs={",".join(values.workdirs)}: name two runs or more'
    )
  if pathlib.Path(values.output).suffix.lower() != '.png':
    raise UserError(f'--output={values.output}: is a picture, FILE.png')
  sample_files.check(values.output, is_file=True)
  runs = [Run(workdir) for workdir in values.workdirs]
  figure = draw(runs, _choose_metrics(runs, values.metrics))
  buffer = io.BytesIO()
  FigureCanvasAgg(figure).print_png(buffer)
  sample_files.write_bytes(values.output, buffer.getvalue())
  print(f'{len(runs)} runs in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
