"""Parts of the explorer's pages that families share."""

import asyncio
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from typing import Any

from nicegui import events
from nicegui import ui
import numpy as np

from common_flax import files
from common_flax.data.rendering import Rendering
from common_flax.errors import UserError
from common_flax.explore import uploads

STYLE = """
.explore-page {max-width: 1240px; margin: 0 auto; padding: 12px; width: 100%}
.explore-columns {display: grid; gap: 12px; width: 100%; grid-template-columns:
  repeat(auto-fit, minmax(min(100%, 350px), 1fr)); align-items: start}
.explore-columns .q-card {width: 100%; gap: 8px}
.explore-picture {image-rendering: pixelated; display: block;
  border: 1px solid #bbb; background: #ddd; object-fit: contain}
.explore-picture:not([src]) {display: none}
.explore-page .q-uploader {min-width: 0; max-height: 60px}
.explore-page .q-uploader__list, .explore-page .q-uploader__subtitle
  {display: none}
.explore-large {width: min(100%, 288px)}
.explore-wide {width: min(100%, 512px)}
.explore-medium {width: 128px}
.explore-small {width: 64px; height: 64px}
.explore-choice {cursor: pointer; padding: 0; border: 0; background: none}
.explore-choice:focus-visible {outline: 3px solid #1565c0}
.explore-thumbs {display: flex; flex-wrap: wrap; gap: 6px; min-height: 20px}
.explore-thumb {width: 72px; font-size: 12px; text-align: center}
.explore-note {color: #555; font-size: 13px}
"""


async def attempt(work: Callable[..., Any], *args: Any) -> Any:
  """Runs slow work in a thread; shows what failed as a sentence.

  Returns:
    What the work returns; None if it failed or the page is closed.
  """
  client = ui.context.client
  try:
    result = await asyncio.to_thread(work, *args)
  except Exception as error:  # whatever happens, the visitor reads a sentence
    if not client.is_deleted:
      text = files.one_line(str(error)) or type(error).__name__
      if not isinstance(error, UserError):
        text = f'This did not work: {text}'
      ui.notify(text, type='negative', multi_line=True, timeout=8000)
    return None
  return None if client.is_deleted else result


class Latest:
  """Runs work again and again while it is asked for, never twice at once.

  Requests that come while it runs are one request.
  """

  def __init__(self, work: Callable[[], Awaitable[None]]):
    self._work = work
    self._is_wanted = False
    self._is_busy = False

  async def __call__(self, *unused_event: Any) -> None:
    self._is_wanted = True
    if self._is_busy:
      return
    self._is_busy = True
    try:
      while self._is_wanted:
        self._is_wanted = False
        await self._work()
    finally:
      self._is_busy = False


@contextlib.contextmanager
def waiting(*buttons: ui.button) -> Iterator[None]:
  """Disables buttons while their work is done."""
  for button in buttons:
    button.disable()
    button.props('loading')
  try:
    yield
  finally:
    for button in buttons:
      button.enable()
      button.props(remove='loading')


def picture(alt: str, size: str = 'large') -> ui.element:
  """An empty picture: 'large', 'wide', 'medium' or 'small'."""
  element = ui.element('img').classes(f'explore-picture explore-{size}')
  element.props['alt'] = alt
  return element


def show(element: ui.element, image: np.ndarray) -> None:
  """Shows an image, uint8 [H, W, C] with C 1 or 3, in a `picture`."""
  element.props['src'] = uploads.to_url(image)
  element.update()


def card(title: str, note: str = '') -> ui.card:
  """A card with a heading."""
  with ui.card() as box:
    ui.label(title).classes('text-subtitle1 text-weight-medium').props(
      'role=heading aria-level=2'
    )
    if note:
      ui.label(note).classes('explore-note')
  return box


def slider(
  label: str,
  low: float,
  high: float,
  value: float,
  on_change: Callable,
  step: float = 0.05,
  text: Callable[[float], str] = '{:.2f}'.format,
) -> ui.slider:
  """A slider with its name and value above it."""
  with ui.column().classes('w-full gap-0'):
    with ui.row().classes('w-full justify-between no-wrap text-caption'):
      ui.label(label)
      shown = ui.label()
    # NiceGUI leaves out values that come within 50 ms, but never the last one.
    element = ui.slider(min=low, max=high, step=step, value=value)
    element.props(f'aria-label="{label}" dense')
    element.on_value_change(on_change)
    shown.bind_text_from(element, 'value', lambda x: text(x or 0))
  return element


def thumbs(
  box: ui.element,
  images: np.ndarray,
  captions: list[str],
  choose: Callable[[int], Any] | None = None,
) -> None:
  """Fills a box with small images [N, H, W, C], which can be chosen."""
  box.clear()
  with box:
    for number, (image, caption) in enumerate(
      zip(images, captions, strict=True)
    ):
      tag = 'div' if choose is None else 'button'
      with ui.element(tag).classes('explore-thumb') as place:
        show(picture(caption, 'small'), image)
        ui.label(caption)
      if choose is not None:
        place.classes('explore-choice')
        place.on('click', lambda number=number: choose(number))


def upload(
  label: str,
  shape: tuple[int, int, int],
  rendering: Rendering,
  receive: Callable[[np.ndarray], Awaitable[None]],
) -> ui.upload:
  """A place for a picture, which is decoded as an image [H, W, C] of the run.

  Args:
    label: its name.
    shape: [H, W, C].
    rendering: how the picture becomes opaque, and of this shape.
    receive: gets uint8 [H, W, C].
  """

  async def receive_file(event: events.UploadEventArguments) -> None:
    element.reset()
    if event.file.size() > uploads.MAX_BYTES:  # only the browser has checked it
      reject()
      return
    data = await event.file.read()
    image = await attempt(uploads.decode, data, shape, rendering)
    if image is not None:
      await receive(image)

  def reject() -> None:
    ui.notify(
      f'Choose one picture of at most {uploads.MAX_BYTES // 2**20} MB.',
      type='negative',
    )

  element = ui.upload(
    label=label,
    on_upload=receive_file,
    on_rejected=reject,
    max_file_size=uploads.MAX_BYTES,
    auto_upload=True,
  )
  element.props(f'accept=image/* flat bordered aria-label="{label}"')
  return element.classes('w-full')
