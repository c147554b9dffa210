"""Draws runs side by side: their samples, and their metrics over steps.

  python -m common_flax.compare_runs --workdirs=DIR,DIR[,...] --output=FILE.png
      [--metrics=NAME,NAME]

Each run is labelled with its folder's name and the config fields that differ
between the runs.
"""

from collections.abc import Sequence
import os
import re
import sys
from typing import Any

from absl import flags
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from common_flax import config as config_lib
from common_flax import files
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.cli import plotting
from common_flax.cli import sample_files
from common_flax.errors import UserError
from common_flax.workdir import writers
from common_flax.workdir.layout import CONFIG

_WIDTH = 3.6  # inches, of a panel of samples
_HEIGHT = 2.4  # inches, of a panel of metrics
_MAX_METRICS = 3  # drawn by default


class Run:
  """The config, metrics and latest samples of a workdir."""

  def __init__(self, workdir: str):
    """Reads a workdir.

    Raises:
      UserError: if it has no samples or no metrics.
    """
    path = epath.Path(os.path.expanduser(workdir))
    self.name = plotting.plain(path.name)
    self.fields = _read_fields(path / CONFIG)
    try:
      self.rows = writers.read_rows(path)
      pictures = [
        picture
        for picture in sorted((path / 'samples').glob('step_*.png'))
        if re.fullmatch(r'step_\d{1,18}', picture.stem)
      ]
      if not self.rows or not pictures:
        raise UserError(f'--workdirs={workdir}: no samples yet; train first')
      picture = writers.read_picture(pictures[-1])
    except OSError as error:
      raise UserError(f'--workdirs={workdir}: {error}') from error
    self.samples = np.asarray(picture.convert('RGB'))
    self.step = int(pictures[-1].stem.removeprefix('step_'))

  def series(self, metric: str) -> tuple[list[int], list[float]]:
    """The steps at which a metric was recorded, and its values."""
    rows = [row for row in self.rows if row.get(metric) is not None]
    return [row['step'] for row in rows], [row[metric] for row in rows]


def _read_fields(path: epath.Path) -> dict[str, Any]:
  """The fields of a config.json, {'dataset.name': 'digits', ...}."""
  if not path.exists():
    raise UserError(f'{path}: no such file; is {path.parent} a workdir?')
  try:
    return config_lib.flatten(files.read_json(path))
  except (OSError, ValueError) as error:
    raise UserError(f'{path}: cannot be read: {error}') from error


def differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
  """For each run, its values of the config fields that differ between runs.

  A field that a config lacks counts as None.
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
  """The metrics to draw, all of which every run has.

  Raises:
    UserError: naming a metric that some run lacks.
  """
  known = [name for name in runs[0].rows[-1] if name != 'step']
  shared = [n for n in known if all(run.series(n)[0] for run in runs)]
  for name in metrics:
    if name not in shared:
      raise UserError(
        f'--metrics={name}: not recorded in every run; choose from '
        f'{", ".join(shared)}'
      )
  return metrics or shared[:_MAX_METRICS]


def draw(runs: Sequence[Run], metrics: Sequence[str]) -> Figure:
  """Draws the samples of the runs in a row, and metrics over steps below."""
  width = _WIDTH * len(runs)
  heights = (_WIDTH * 1.1, _HEIGHT)
  figure = plotting.create_figure(width, sum(heights))
  top, bottom = figure.subfigures(2, height_ratios=heights)
  panels = top.subplots(1, len(runs), squeeze=False)[0]
  for panel, run, fields in zip(panels, runs, differences(runs), strict=True):
    panel.imshow(run.samples, interpolation='nearest')
    panel.set_axis_off()
    lines = [f'{run.name}, step {run.step:,}']
    lines += [
      plotting.plain(f'{name} = {value}') for name, value in fields.items()
    ]
    panel.set_title('\n'.join(lines), fontsize=9)
  panels = bottom.subplots(1, len(metrics), squeeze=False)[0]
  for panel, metric in zip(panels, metrics, strict=True):
    for run, colour in zip(runs, _colours(len(runs)), strict=True):
      panel.plot(*run.series(metric), label=run.name, color=colour)
    plotting.finish(panel, plotting.plain(metric), 'step')
  panels[0].legend(loc='best', fontsize=8, frameon=False)
  return figure


def _colours(num: int) -> list[str]:
  return [plotting.COLOURS[i % len(plotting.COLOURS)] for i in range(num)]


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_list(
    'workdirs', [], 'Workdirs of two or more runs.', flag_values=values
  )
  flags.DEFINE_string(
    'output', None, 'FILE.png, FILE.jpg or FILE.webp', flag_values=values
  )
  flags.DEFINE_list(
    'metrics',
    [],
    f'Names from metrics.jsonl; the first {_MAX_METRICS} by default.',
    flag_values=values,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdirs', 'output')
  if len(values.workdirs) < 2:
    raise UserError(
      f'--workdirs={",".join(values.workdirs)}: name two or more runs'
    )
  outputs.check(values.output, outputs.PICTURES)
  runs = [Run(workdir) for workdir in values.workdirs]
  figure = draw(runs, _choose_metrics(runs, values.metrics))
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  picture = np.asarray(canvas.buffer_rgba())[..., :3]
  sample_files.write_picture(values.output, picture)
  print(f'{len(runs)} runs in {values.output}')


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
