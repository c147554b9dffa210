"""The page of a report: one HTML file that loads nothing.

`Content-Security-Policy` makes browsers refuse whatever is not in the file.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import importlib.resources
import json
import re
from typing import Any

from etils import epath

import common_flax
from common_flax import files
from common_flax import log
from common_flax.cli import terminal
from common_flax.report import charts
from common_flax.report import facts
from common_flax.report import markup
from common_flax.report import pictures
from common_flax.report import runs as runs_lib
from common_flax.report.markup import Element
from common_flax.report.markup import element
from common_flax.report.runs import Run
from common_flax.workdir import checkpoints
from common_flax.workdir import provenance

FILE = 'report.html'

_POLICY = (
  "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
  "script-src 'unsafe-inline'"
)
_BASELINES = {'real': 'real examples', 'perfect': 'perfect samples'}
_UNCERTAINTY = '_standard_error'
_HUGE = 1e300  # no score
_PICTURES = {  # that evaluation draws
  'evaluation.png': 'Scores of the checkpoints over steps',
  'nearest.png': 'Samples beside the training images nearest to them',
}


def write(workdir: epath.PathLike) -> None:
  """Writes the report of a run into its workdir.

  Raises:
    UserError: if the folder holds no run.
    OSError: or the error of an object store, if the page cannot be written.
  """
  text, _ = render([runs_lib.read(workdir)])
  files.write_bytes(epath.Path(workdir) / FILE, text.encode())


def refresh(workdir: epath.PathLike) -> None:
  """Writes the report of a run anew, if it has one; says what fails."""
  try:
    if (epath.Path(workdir) / FILE).exists():
      write(workdir)
  except Exception as error:  # a report must not end what it reports
    print(f'{FILE} cannot be written: {checkpoints.reason(error)}')


def render(runs: Sequence[Run]) -> tuple[str, list[str]]:
  """The page of one run, or of several side by side.

  Returns:
    The page, and what could not be read.
  """
  runs = runs_lib.told_apart(runs)
  faults = [fault for run in runs for fault in run.faults]
  data: list[dict[str, Any]] = []
  body = [
    _header(runs),
    markup.section(
      'What was trained',
      facts.facts_table('What was trained', runs, facts.WHAT),
    ),
    markup.section(
      'Samples',
      *(pictures.samples(run, faults, _prefix(runs, run)) for run in runs),
    ),
    markup.section('Curves', *charts.curves(runs, data)),
    markup.section('Evaluation', *_evaluation(runs, faults)),
    markup.section('Warnings', *_warnings(runs, faults)),
    markup.section('Config', *_config(runs)),
    markup.section('How to reproduce it', *_reproduction(runs)),
    element('footer', _footer()),
  ]
  # JSON has no characters that end a script, once < is escaped.
  numbers = json.dumps(data, separators=(',', ':')).replace('<', r'\u003c')
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element('meta', http_equiv='Content-Security-Policy', content=_POLICY),
    element('meta', name='viewport', content='width=device-width'),
    element('meta', name='color-scheme', content='light dark'),
    element('title', _title(runs)),
    element('style', _resource('uplot.min.css')),
    element('style', _resource('report.css')),
    element('script', "document.documentElement.className = 'js';"),
  )
  scripts = [
    element('script', numbers, type='application/json', id='data'),
    element('script', f'/* {_resource("uplot.LICENSE.txt")} */'),
    element('script', _resource('uplot.min.js')),
    element('script', _resource('report.js')),
  ]
  main = element('body', element('main', *body), *scripts)
  page = markup.to_html(element('html', head, main, lang='en'))
  return f'<!DOCTYPE html>\n{page}\n', faults


def _resource(name: str) -> str:
  return (
    importlib.resources.files(__package__).joinpath(name).read_text('utf-8')
  )


def _title(runs: Sequence[Run]) -> str:
  if len(runs) == 1:
    return f'{facts.title(runs[0])} ({runs[0].name})'
  return f'{len(runs)} runs: {", ".join(run.name for run in runs)}'


def _header(runs: Sequence[Run]) -> Element:
  parts = [element('h1', _title(runs))]
  for run in runs:
    if not run.is_finished:
      num = run.config.get('num_steps', 0)
      text = f'{run.name} has taken {run.step:,} of {num:,} steps so far.'
      parts.append(element('p', text, class_='note'))
  return element('header', *parts)


def _prefix(runs: Sequence[Run], run: Run) -> str:
  """Names a run where there are several."""
  return f'{run.name}: ' if len(runs) > 1 else ''


def _evaluation(runs: Sequence[Run], faults: list[str]) -> list[Element]:
  scored = [run for run in runs if run.evaluation]
  missing = [
    element('p', f'{run.name} has not been evaluated.', class_='missing')
    for run in runs
    if not run.evaluation
  ]
  if not scored:
    return missing
  columns: dict[str, Mapping[str, Any]] = {}
  for run in scored:
    name = _prefix(runs, run)
    columns[run.name if name else 'this run'] = run.evaluation
    for prefix, heading in _BASELINES.items():
      column = {
        key.removeprefix(f'{prefix}_'): value
        for key, value in run.evaluation.items()
        if key.startswith(f'{prefix}_')
      }
      if column:
        columns[f'{name}{heading}'] = column
  names = dict.fromkeys(name for run in scored for name in _scores(run))
  rows = [
    [name.replace('_', ' '), *(_score(c, name) for c in columns.values())]
    for name in names
  ]
  caption = 'Scores of samples, beside those of real examples'
  parts = [markup.table(caption, ('', *columns), rows, 'numbers')]
  for run in scored:
    parts.append(_measured(run))
    for file, text in _PICTURES.items():
      told = f'{_prefix(runs, run)}{text}'
      picture = pictures.file(run.workdir / file, told, faults)
      parts += [] if picture is None else [picture]
  return [*parts, *missing]


def _scores(run: Run) -> list[str]:
  """The names of the scores, without those of baselines."""
  prefixes = tuple(f'{name}_' for name in _BASELINES)
  return [
    name
    for name, value in run.evaluation.items()
    if _is_number(value)
    and not name.startswith(prefixes)
    and not name.endswith(_UNCERTAINTY)
  ]


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and abs(value) < _HUGE


def _score(column: Mapping[str, Any], name: str) -> str:
  value, error = column.get(name), column.get(f'{name}{_UNCERTAINTY}')
  if not _is_number(value):
    return ''
  text = terminal.number(value)
  if _is_number(error):
    text += f' ± {terminal.number(error)}'
  return text


def _measured(run: Run) -> Element:
  """How the scores were measured."""
  how = run.evaluation.get('provenance')
  rows = [
    [name.replace('_', ' '), facts.value(value)]
    for name, value in (how.items() if isinstance(how, dict) else ())
    if name != 'checkpoints'
  ]
  title = f'How {run.name} was scored'
  return markup.details(title, markup.table(title, ('', 'value'), rows))


def _warnings(runs: Sequence[Run], faults: Sequence[str]) -> list[Element]:
  parts = []
  if faults:
    items = (element('li', fault) for fault in faults)
    parts.append(element('p', 'This report lacks what could not be read:'))
    parts.append(element('ul', *items))
  for run in runs:
    if run.remarks:
      rows = [[remark.time, remark.text] for remark in run.remarks]
      caption = f'What {run.name} said in training'
      columns = ('Time', 'Message')
      parts.append(markup.table(caption, columns, rows, 'log'))
    elif run.remarks is None:
      text = f'{run.name} has no {log.NAME}, which would hold its warnings.'
      parts.append(element('p', text, class_='missing'))
    else:
      parts.append(element('p', f'{run.name} gave no warning.'))
  return parts


def _config(runs: Sequence[Run]) -> list[Element]:
  every = dict.fromkeys(name for run in runs for name in sorted(run.config))
  columns = ('Field', *facts.names(runs))
  same, different = [], []
  for name in every:
    values = [run.config.get(name) for run in runs]
    row = [
      name,
      *(
        facts.value(run.config[name]) if name in run.config else ''
        for run in runs
      ),
    ]
    (same if all(v == values[0] for v in values) else different).append(row)
  if len(runs) == 1:
    return [
      markup.details(
        f'{len(same)} fields', markup.table('Config', columns, same, 'config')
      )
    ]
  parts = [element('p', 'The configs of these runs are equal.')]
  if different:
    caption = 'Fields that differ'
    parts = [markup.table(caption, columns, different, 'config')]
  if same:
    title = f'{len(same)} fields that are equal'
    parts.append(
      markup.details(title, markup.table(title, columns, same, 'config'))
    )
  return parts


def _reproduction(runs: Sequence[Run]) -> list[Element]:
  parts = []
  for run in runs:
    commands = facts.commands(run)
    if commands:
      text = '\n'.join(commands)
      parts.append(element('p', f'{run.name} was trained by'))
      parts.append(element('pre', element('code', text), tabindex='0'))
    elif run.record:
      text = f'{run.name} was trained from Python, with the config above.'
      parts.append(element('p', text))
    else:
      text = (
        f'{run.name} was trained by a version that did not record its command, '
        'machine or versions.'
      )
      parts.append(element('p', text, class_='missing'))
  if any(run.record for run in runs):
    table = facts.facts_table('Machine and versions', runs, facts.machine(runs))
    parts.append(table)
    hint = (
      'On the same machine and versions, the same seed gives the same numbers.'
    )
    parts.append(element('p', hint, class_='note'))
  return parts


def _footer() -> str:
  time = re.sub(r'T(\d\d:\d\d).*', r' \1 UTC', provenance.now())
  version = common_flax.__version__
  return (
    f'Written by gan_vae_flax {version} on {time}. The curves: uPlot (MIT).'
  )
