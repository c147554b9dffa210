"""What was trained on what, where and how: the tables of facts of a report."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import datetime
import math
import shlex
from typing import Any

from common_flax.cli import terminal
from common_flax.report import markup
from common_flax.report.markup import Element
from common_flax.report.runs import Run
from common_flax.workdir.provenance import Start

_MAX_CLASSES = 20  # whose names are shown

Fact = tuple[str, Callable[[Run], str | None]]


def facts_table(
  caption: str, runs: Sequence[Run], facts: Sequence[Fact]
) -> Element:
  """A table with a row for each fact that some run has."""
  rows = []
  for name, of in facts:
    cells = [_cell(of, run) for run in runs]
    if any(cells):
      rows.append([name, *(cell or '' for cell in cells)])
  kind = 'facts' if len(runs) > 1 else 'facts single'
  return markup.table(caption, ('', *names(runs)), rows, kind)


def _cell(of: Callable[[Run], str | None], run: Run) -> str | None:
  """A fact of a run; of a file that somebody has changed, a word for it."""
  try:
    return of(run)
  except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
    return 'damaged'


def names(runs: Sequence[Run]) -> list[str]:
  """A heading for each run."""
  return [run.name for run in runs] if len(runs) > 1 else ['this run']


def title(run: Run) -> str:
  """What was trained on what, in a few words."""
  model = run.config.get('model.name') or _package(run) or 'a model'
  return f'{model} on {run.config.get("dataset.name", "unknown data")}'


def _package(run: Run) -> str | None:
  function = run.record.function if run.record else ''
  package = function.partition('.')[0]
  return None if package in ('', '__main__') else package


def _function(run: Run) -> str | None:
  return (run.record and run.record.function) or None


def _recipe(run: Run) -> str | None:
  command = next((s.command for s in _starts(run) if s.command), None)
  if command is None:
    return 'called from Python' if _starts(run) else None
  try:
    words = shlex.split(command)
  except ValueError:
    return None
  for word, after in zip(words, [*words[1:], ''], strict=True):
    name, _, value = word.partition('=')
    if name in ('--config', '-config'):
      return value or after
  return None


def _starts(run: Run) -> Sequence[Start]:
  return run.record.starts if run.record else ()


def _field(*names: str) -> Callable[[Run], str | None]:
  def of(run: Run) -> str | None:
    values = [run.config.get(name) for name in names]
    return ', '.join(str(v) for v in values if v is not None) or None

  return of


def _data(run: Run) -> str | None:
  name, path = run.config.get('dataset.name'), run.config.get('dataset.path')
  if name is None:
    return None
  split = run.config.get('dataset.split')
  text = f'{name}, split {split}' if split else str(name)
  return f'{text}, from {path}' if path else text


def _examples(run: Run) -> str | None:
  shape, num = run.data.get('image_shape'), run.data.get('num_examples')
  if num is None or not shape:
    return None
  if len(shape) == 3:
    height, width, channels = shape
    colours = {1: 'grey', 3: 'colour'}.get(channels, f'{channels} channels')
    return f'{num:,} images of {width} x {height} pixels, {colours}'
  return f'{num:,} points of {math.prod(shape)} coordinates'


def _classes(run: Run) -> str | None:
  num = run.data.get('num_classes')
  if not num:
    return None
  known = run.class_names or ()
  if not known:
    return str(num)
  more = ', ...' if len(known) > _MAX_CLASSES else ''
  return f'{num}: {", ".join(known[:_MAX_CLASSES])}{more}'


def _kind(run: Run) -> str:
  """The plural noun for the examples."""
  is_of_images = len(run.data.get('image_shape', ())) == 3
  return run.data.get('kind') or ('images' if is_of_images else 'examples')


def _steps(run: Run) -> str:
  num = run.config.get('num_steps', 0)
  size = run.config.get('batch_size', 0)
  text = f'{run.step:,} of {num:,}' if run.step < num else f'{run.step:,}'
  return f'{text}, each with a batch of {size:,} {_kind(run)}'


def _seeds(run: Run) -> str:
  first, num = run.config.get('seed', 0), run.config.get('num_seeds', 1)
  return f'{first} to {first + num - 1}, at once' if num > 1 else str(first)


def _parameters(run: Run) -> str | None:
  counts = run.record.parameters if run.record else {}
  if not counts:
    return None
  each = ', '.join(f'{name} {num:,}' for name, num in counts.items())
  total = sum(counts.values())
  return f'{total:,}: {each}' if len(counts) > 1 else each


def _time(run: Run) -> str | None:
  """The time of all starts that ended."""
  seconds, unended = 0.0, 0
  for start in _starts(run):
    if start.ended is None:
      unended += 1
      continue
    began, ended = map(
      datetime.datetime.fromisoformat, (start.began, start.ended)
    )
    seconds += (ended - began).total_seconds()
  if not _starts(run):
    return None
  text = terminal.duration(seconds)
  if len(_starts(run)) > 1:
    text += f' in {terminal.counted(len(_starts(run)), "start")}'
  if unended:
    text += f'; {unended} did not end by itself, or goes on'
  return text


def _speed(run: Run) -> str | None:
  points = run.series('images_per_second')
  if not points:
    return None
  return f'{points[-1][1]:,.0f} {_kind(run)} per second at the end'


WHAT: Sequence[Fact] = (
  ('Recipe', _recipe),
  ('Train step', _function),
  ('Model', _field('model.name')),
  ('Loss', _field('loss.name')),
  ('Objective', _field('objective')),
  ('Likelihood', _field('likelihood')),
  ('Data', _data),
  ('Examples', _examples),
  ('Classes', _classes),
  ('Steps', _steps),
  ('Seed', _seeds),
  ('Numbers', _field('compute_dtype')),
  ('Parameters', _parameters),
  ('Time', _time),
  ('Speed', _speed),
  ('Folder', lambda run: str(run.workdir)),
)


def _last(name: str) -> Callable[[Run], str | None]:
  """A field of the newest start."""
  return lambda run: getattr(_starts(run)[-1], name) if _starts(run) else None


def _of_machine(name: str) -> Callable[[Run], str | None]:
  def of(run: Run) -> str | None:
    value = _starts(run)[-1].machine.get(name) if _starts(run) else None
    return None if value is None else str(value)

  return of


def _libraries(runs: Sequence[Run]) -> Iterator[Fact]:
  found = dict.fromkeys(
    name for run in runs for s in _starts(run)[-1:] for name in s.versions
  )
  for name in found:
    yield name, lambda run, name=name: _version(run, name)


def _version(run: Run, name: str) -> str | None:
  return _starts(run)[-1].versions.get(name) if _starts(run) else None


def machine(runs: Sequence[Run]) -> Sequence[Fact]:
  """The machine and the versions of the newest start."""
  return (
    ('Devices', _last('devices')),
    ('Processor', _of_machine('processor')),
    ('Cores', _of_machine('cores')),
    ('System', _of_machine('system')),
    *_libraries(runs),
  )


def commands(run: Run) -> list[str]:
  """The commands that trained a run, without repetitions, a flag a line."""
  given = dict.fromkeys(s.command for s in _starts(run) if s.command)
  return [_a_flag_a_line(command) for command in given]


def _a_flag_a_line(command: str) -> str:
  try:
    words = shlex.split(command)
  except ValueError:
    return command
  parts = (
    f' \\\n  {shlex.quote(word)}'
    if word.startswith('--')
    else f' {shlex.quote(word)}'
    for word in words
  )
  return ''.join(parts).lstrip(' ')


def value(field: Any) -> str:
  """A field of a config as one would write it."""
  if isinstance(field, list):  # JSON's form of a tuple
    inside = ', '.join(map(value, field))
    return f'({inside},)' if len(field) == 1 else f'({inside})'
  return repr(field) if isinstance(field, str) else str(field)
