"""Progress bars on a terminal and in notebooks; silence elsewhere."""

import base64
from collections.abc import Iterable
from collections.abc import Iterator
import html
import sys
import time
from typing import Any
from typing import TextIO
from typing import TypeVar

import rich.console
import rich.progress

from common_flax import output

T = TypeVar('T')

_MIN_ITEMS = 100  # for which a bar is shown
_UPDATE_SECONDS = 0.25  # between two updates of a bar in a notebook


def console(file: TextIO | None = None) -> rich.console.Console:
  """A console on a file, by default on the current standard output."""
  return rich.console.Console(
    file=file,
    highlight=False,
    soft_wrap=True,
    force_jupyter=False,  # else each line is an output of its own, in HTML
  )


def in_notebook() -> bool:
  """Whether this runs in the kernel of a notebook."""
  ipython = sys.modules.get('IPython')
  # IPython on a terminal has a shell without a kernel.
  return ipython is not None and hasattr(ipython.get_ipython(), 'kernel')


class NotebookBar:
  """A progress bar, and a picture below it, in the output of a cell.

  They are plain HTML and PNG, which every notebook shows without widgets and
  keeps when it is saved. IPython is what the kernel has loaded.
  """

  def __init__(self, total: int, completed: int = 0, text: str = ''):
    """Shows the bar.

    Args:
      total: number of steps.
      completed: number of steps that are done.
      text: shown beside the bar.
    """
    self._total = total
    self._completed = completed
    self._text = text
    self._updated = time.monotonic()
    self._picture: Any = None  # IPython's handle
    self._bar = self._display(self._content())

  def update(self, completed: int, text: str | None = None) -> None:
    """Moves the bar, and changes the text if there is one."""
    self._completed = completed
    if text is not None:
      self._text = text
    elif time.monotonic() - self._updated < _UPDATE_SECONDS:
      return
    self._updated = time.monotonic()
    self._bar.update(self._content(), raw=True)

  def show(self, png: bytes, caption: str) -> None:
    """Shows a picture in place of the last one.

    Args:
      png: the picture.
      caption: what it shows, for readers who cannot see it.
    """
    content = {
      'image/png': base64.b64encode(png).decode(),
      'text/plain': caption,
    }
    metadata = {'image/png': {'alt': caption}}
    if self._picture is None:
      self._picture = self._display(content, metadata)
    else:
      self._picture.update(content, metadata=metadata, raw=True)

  def close(self) -> None:
    """Shows where the bar has come to."""
    self.update(self._completed, self._text)

  @staticmethod
  def _display(content: dict[str, str], metadata: Any = None) -> Any:
    from IPython.display import display

    return display(content, raw=True, metadata=metadata, display_id=True)

  def _content(self) -> dict[str, str]:
    count = f'{self._completed:,}/{self._total:,}'
    return {
      'text/html': (
        f'<div><progress value="{self._completed}" max="{self._total}" '
        f'aria-label="{count}" style="width: 16em"></progress> '
        f'<small><code>{count}  {html.escape(self._text)}</code></small></div>'
      ),
      'text/plain': f'{count}  {self._text}',
    }


def track(items: Iterable[T], total: int, description: str) -> Iterator[T]:
  """Yields the items; shows a bar if there are many and somebody can see it.

  Args:
    items: the items.
    total: number of items.
    description: shown beside the bar.
  """
  screen = console(output.screen())  # a log keeps no bars
  if total >= _MIN_ITEMS and in_notebook():
    bar = NotebookBar(total, text=description)
    for done, item in enumerate(items):
      bar.update(done)
      yield item
    bar.update(total, description)
    return
  if not screen.is_terminal or total < _MIN_ITEMS:
    yield from items
    return
  yield from rich.progress.track(
    items, description, total, console=screen, transient=True
  )
