"""What a person sees while a command works: tables, bars, lines of text.

On a terminal long work shows a bar; elsewhere, in a log file say, lines.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

import jax
import rich.console
import rich.progress
import rich.table

_MIN_ITEMS_SHOWN = 100  # fewer are done before a bar is of use


def console() -> rich.console.Console:
  """The standard output as it is now."""
  return rich.console.Console(highlight=False, soft_wrap=True)


def track(items: Iterable, total: int, description: str) -> Iterator:
  """Gives `items` back, with a bar on a terminal if they are many."""
  screen = console()
  if not screen.is_terminal or total < _MIN_ITEMS_SHOWN:
    yield from items
    return
  yield from rich.progress.track(
    items, description, total, console=screen, transient=True
  )


def print_parameters(networks: Mapping[str, Any]) -> None:
  """Prints a table of the parameters of each network, by layer."""
  table = rich.table.Table(title='Parameters', title_justify='left')
  table.add_column('layer')
  table.add_column('shape')
  table.add_column('number', justify='right')
  for network, params in networks.items():
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
      name = '/'.join([network, *(str(entry.key) for entry in path)])
      shape = ' x '.join(map(str, leaf.shape))
      table.add_row(name, shape, f'{leaf.size:,}')
    total = sum(leaf.size for _, leaf in leaves)
    table.add_row(f'[bold]{network}[/bold]', '', f'[bold]{total:,}[/bold]')
    table.add_section()
  console().print(table)


def print_numbers(title: str, numbers: Mapping[str, float]) -> None:
  """Prints a table of numbers by name."""
  table = rich.table.Table(title=title, title_justify='left')
  table.add_column('')
  table.add_column('', justify='right')
  for name, value in numbers.items():
    table.add_row(name, number(value))
  console().print(table)


def print_table(
  title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]
) -> None:
  """Prints a row of numbers for each name; `columns` begins with the names'.

  What is not known, None, has an empty cell.
  """
  table = rich.table.Table(title=title, title_justify='left')
  for i, column in enumerate(columns):
    # Words apart, so that a long one takes two lines.
    header = column.replace('_', ' ')
    table.add_column(header, justify='right' if i else 'left')
  for name, values in rows.items():
    cells = ('' if value is None else number(value) for value in values)
    table.add_row(name.replace('_', ' '), *cells)
  console().print(table)


def number(value: float) -> str:
  """'0.182', '1,234.500', '24', and '-4.1e-05' of what would be 0.000."""
  if 0 < abs(value) < 0.0005:
    return f'{value:.1e}'
  return f'{value:,.0f}' if float(value).is_integer() else f'{value:,.3f}'


def duration(seconds: float) -> str:
  """'41 s', '3 min 20 s', '2 h 05 min'."""
  seconds = math.ceil(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60:02d} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60:02d} min'


class TrainingProgress:
  """The progress of training: a bar on a terminal, else a line a report."""

  def __init__(self, step: int, num_steps: int):
    self._num_steps = num_steps
    self._console = console()
    self._bar = None
    if self._console.is_terminal:
      self._bar = rich.progress.Progress(
        rich.progress.TextColumn(
          'step {task.completed:,.0f}/{task.total:,.0f}'
        ),
        rich.progress.BarColumn(bar_width=None),
        rich.progress.TextColumn('{task.fields[report]}'),
        console=self._console,
      )
      self._task = self._bar.add_task(
        '', total=num_steps, completed=step, report='compiling'
      )

  def __enter__(self) -> 'TrainingProgress':
    if self._bar:
      self._bar.start()
    return self

  def __exit__(self, *unused_exception) -> None:
    if self._bar:
      self._bar.stop()

  def began(self) -> None:
    """Says that the first step is done."""
    if self._bar:
      self._bar.update(self._task, report='')

  def advance(self, step: int) -> None:
    """Moves the bar."""
    if self._bar:
      self._bar.update(self._task, completed=step)

  def say(self, line: str) -> None:
    """Prints a line, above the bar if there is one."""
    self._console.print(line)

  def report(self, step: int, text: str) -> None:
    """Shows the numbers of a step."""
    if self._bar:
      self._bar.update(self._task, completed=step, report=text)
    else:
      self._console.print(f'step {step:,}/{self._num_steps:,}  {text}')
