"""The curves of a report: which metrics are drawn together, and their points.

The page draws them with uPlot, of which the package holds a copy: it takes 51
kB, where plotly.js takes 1 MB or more, and needs nothing to be installed.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import itertools
import re
from typing import Any

from common_flax.cli import terminal
from common_flax.report import markup
from common_flax.report.markup import Element
from common_flax.report.markup import element
from common_flax.report.runs import Run

_MAX_POINTS = 1000  # of a curve
_MAX_OPEN = 6  # charts shown at once if a run does not say which
_UNCERTAINTY = '_standard_error'
# Told in every run, and of little interest over steps.
_SPEED = (
  'images_per_second',
  'step_milliseconds',
  'model_gflops_per_second',
  'matmul_rate_share',
)


def curves(runs: Sequence[Run], data: list[dict[str, Any]]) -> list[Element]:
  """The charts of the runs.

  Args:
    runs: the runs; several are drawn in one chart for each metric.
    data: receives what the page's script draws, a JSON object for each chart.
  """
  names = _metrics(runs)
  if not names:
    return [element('p', 'There are no metrics yet.', class_='missing')]
  main = _panels(runs, names)
  shown = {name for _, group in main for name in group}
  others = [(name, [name]) for name in names if name not in shown]
  parts = [_controls(), _grid(runs, main, data)]
  if others:
    more = terminal.counted(len(others), 'other metric')
    parts.append(markup.details(more, _grid(runs, others, data)))
  parts.append(markup.details('The same in numbers', _numbers(runs, names)))
  dropped = [
    f'{run.name}: one row in {_stride(run)} of {len(run.rows):,} is drawn.'
    for run in runs
    if _stride(run) > 1
  ]
  hint = element('p', 'Without JavaScript there are the numbers alone.')
  parts.insert(0, element('noscript', hint))
  return [*parts, *(element('p', text, class_='note') for text in dropped)]


def _metrics(runs: Sequence[Run]) -> list[str]:
  """The metrics, those that every run has first; no errors of several seeds."""
  each = [dict.fromkeys(n for row in run.rows for n in row) for run in runs]
  every = dict.fromkeys(name for names in each for name in names)
  metrics = [n for n in every if n != 'step' and not n.endswith(_UNCERTAINTY)]
  return sorted(metrics, key=lambda n: not all(n in names for names in each))


def _panels(
  runs: Sequence[Run], names: Sequence[str]
) -> list[tuple[str, list[str]]]:
  """The charts that are shown at once: titles, and names of metrics."""
  panels: dict[str, list[str]] = {}
  for run in runs:
    if run.record:
      panels = {**run.record.panels, **panels}
  known = [
    (title, [name for name in group if name in names])
    for title, group in panels.items()
  ]
  known = [(title, group) for title, group in known if group]
  if not known:
    first = [name for name in names if name not in _SPEED]
    first.sort(key=lambda name: not re.search('loss|elbo|error', name))
    known = [(name, [name]) for name in first[:_MAX_OPEN]]
  if len(runs) == 1:
    return known
  flat = dict.fromkeys(name for _, group in known for name in group)
  return [(name, [name]) for name in flat]


def _controls() -> Element:
  """Fields for the steps that all charts show."""
  fields = (
    element(
      'input',
      type='number',
      class_=name,
      aria_label=f'{name.capitalize()} step of the charts',
    )
    for name in ('first', 'last')
  )
  words = ('Steps ', ' to ')
  parts = itertools.chain(*zip(words, fields, strict=True))
  button = element('button', 'All steps', type='button', class_='all')
  hint = ' Drag across a chart to see less of it.'
  return element('p', *parts, ' ', button, hint, class_='control zoom')


def _grid(
  runs: Sequence[Run],
  panels: Sequence[tuple[str, list[str]]],
  data: list[dict[str, Any]],
) -> Element:
  charts = []
  for title, names in panels:
    series = list(_series(runs, names))
    aria = '. '.join(_told(label, points) for label, _, points in series)
    charts.append(
      element(
        'figure',
        element('figcaption', title),
        element(
          'div',
          class_='plot',
          role='img',
          aria_label=f'{title}. {aria}.',
          data_chart=str(len(data)),
        ),
        class_='chart',
      )
    )
    data.append(_aligned(series))
  return element('div', *charts, class_='charts')


def _series(
  runs: Sequence[Run], names: Sequence[str]
) -> Iterator[tuple[str, int, list[tuple[int, float]]]]:
  """Labels, numbers of the colours and points of the curves of a chart."""
  for i, run in enumerate(runs):
    stride = _stride(run)
    for j, name in enumerate(names):
      points = run.series(name)
      if not points:
        continue
      kept = points[::stride]
      if kept[-1] != points[-1]:
        kept.append(points[-1])
      yield (run.name, i, kept) if len(runs) > 1 else (name, j, kept)


def _stride(run: Run) -> int:
  return -(-len(run.rows) // _MAX_POINTS)


def _aligned(
  series: Sequence[tuple[str, int, list[tuple[int, float]]]],
) -> dict[str, Any]:
  """The curves over the steps of all of them, rounded to six digits."""
  steps = sorted({step for *_, points in series for step, _ in points})
  curves = []
  for label, colour, points in series:
    values = dict(points)
    heights = [
      None if values.get(step) is None else float(f'{values[step]:.6g}')
      for step in steps
    ]
    name = markup.printable(label)
    curves.append({'label': name, 'colour': colour, 'values': heights})
  return {'steps': steps, 'curves': curves}


def _told(label: str, points: Sequence[tuple[int, float]]) -> str:
  """A curve in words."""
  (first_step, first), (last_step, last) = points[0], points[-1]
  return (
    f'{label}: {terminal.number(first)} at step {first_step:,}, '
    f'{terminal.number(last)} at step {last_step:,}'
  )


def _numbers(runs: Sequence[Run], names: Sequence[str]) -> Element:
  rows = []
  for name in names:
    for run in runs:
      points = run.series(name)
      if not points:
        continue
      lowest = min(points, key=lambda point: point[1])
      highest = max(points, key=lambda point: point[1])
      errors = run.series(f'{name}{_UNCERTAINTY}')
      cells = [_at(*point) for point in (points[0], lowest, highest)]
      last = terminal.number(points[-1][1])
      if errors:
        last += f' ± {terminal.number(errors[-1][1])}'
      title = f'{run.name}: {name}' if len(runs) > 1 else name
      rows.append([title, last, *cells])
  columns = ('Metric', 'Last', 'First', 'Lowest', 'Highest')
  return markup.table('Metrics over training', columns, rows, 'numbers')


def _at(step: int, value: float) -> str:
  return f'{terminal.number(value)} at {step:,}'
