"""Progress bars on a terminal; silence elsewhere."""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import TextIO
from typing import TypeVar

import rich.console
import rich.progress

from common_flax import output

T = TypeVar('T')

_MIN_ITEMS = 100  # for which a bar is shown


def console(file: TextIO | None = None) -> rich.console.Console:
  """A console on a file, by default on the current standard output."""
  return rich.console.Console(file=file, highlight=False, soft_wrap=True)


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
  """Yields the items; shows a bar on a terminal if there are many.

  Args:
    items: the items.
    total: number of items.
    description: shown beside the bar.
  """
  screen = console(output.screen())  # a log keeps no bars
  if not screen.is_terminal or total < _MIN_ITEMS:
    yield from items
    return
  yield from rich.progress.track(
    items, description, total, console=screen, transient=True
  )
