"""Output of commands: tables, the progress of training, formatted numbers."""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

import jax
import numpy as np
import rich.progress
import rich.table

from common_flax import images
from common_flax import output
from common_flax.progress import console
from common_flax.progress import in_notebook
from common_flax.progress import NotebookBar

_MIN_WIDTH = 320  # pixels of a picture in a notebook


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


def print_table(
  title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]
) -> None:
  """Prints a table of numbers.

  Args:
    title: shown above the table.
    columns: headers, the first one of the row names.
    rows: numbers by row name; None leaves a cell empty.
  """
  table = rich.table.Table(title=title, title_justify='left')
  for i, column in enumerate(columns):
    # Spaces let a long header wrap.
    header = column.replace('_', ' ')
    table.add_column(header, justify='right' if i else 'left')
  for name, values in rows.items():
    cells = ('' if value is None else number(value) for value in values)
    table.add_row(name.replace('_', ' '), *cells)
  console().print(table)


def number(value: float) -> str:
  """Formats a number: '0.182', '1,234.500', '24', '-4.1e-05'."""
  if 0 < abs(value) < 0.0005:
    return f'{value:.1e}'
  return f'{value:,.0f}' if float(value).is_integer() else f'{value:,.3f}'


def counted(num: int, noun: str) -> str:
  """Formats a number of things: '1 step', '1,000 steps'."""
  return f'{num:,} {noun}' if num == 1 else f'{num:,} {noun}s'


def duration(seconds: float) -> str:
  """Formats a duration: '41 s', '3 min 20 s', '2 h 05 min'."""
  seconds = math.ceil(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60:02d} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60:02d} min'


class TrainingProgress:
  """The progress of training: a bar on a terminal, elsewhere lines.

  In a notebook there is a bar with the latest picture below it. The log of the
  run gets the lines in all cases.
  """

  def __init__(self, step: int, num_steps: int):
    self._start = step
    self._num_steps = num_steps
    self._console = console(output.screen())
    self._bar = None
    self._notebook = None
    if in_notebook():
      self._notebook = NotebookBar(num_steps, step, 'compiling')
    elif self._console.is_terminal:
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
      output.log_prints()  # which the bar shows above itself
    return self

  def __exit__(self, *unused_exception) -> None:
    if self._bar:
      self._bar.stop()
    if self._notebook:
      self._notebook.close()

  def began(self) -> None:
    """Marks the first step as done; the bar shows 'compiling' until then."""
    if self._bar:
      self._bar.update(self._task, report='')
    if self._notebook:
      self._notebook.update(self._start, '')

  def advance(self, step: int) -> None:
    """Moves the bar to a step."""
    if self._bar:
      self._bar.update(self._task, completed=step)
    if self._notebook:
      self._notebook.update(step)

  def say(self, line: str) -> None:
    """Prints a line above the bar."""
    output.note(f'{line}\n')
    self._console.print(line)

  def report(self, step: int, text: str) -> None:
    """Shows the metrics of a step."""
    line = f'step {step:,}/{self._num_steps:,}  {text}'
    output.note(f'{line}\n')
    if self._bar:
      self._bar.update(self._task, completed=step, report=text)
    elif self._notebook:
      self._notebook.update(step, text)
    else:
      self._console.print(line)

  def picture(self, step: int, picture: np.ndarray) -> None:
    """Shows a picture, uint8 [H, W, C], where there is room: in a notebook."""
    if self._notebook:
      factor = -(-_MIN_WIDTH // picture.shape[1])
      enlarged = picture.repeat(factor, axis=0).repeat(factor, axis=1)
      caption = f'samples after {counted(step, "step")}'
      self._notebook.show(images.to_png(enlarged), caption)
