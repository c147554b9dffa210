"""The card "Find it": an uploaded picture is searched in the latents."""

import asyncio
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Sequence

from nicegui import ui
import numpy as np

from common_flax.data.rendering import Rendering
from common_flax.explore import widgets
from common_flax.explore.projection import Projection
from common_flax.explore.widgets import attempt

# Searches use all cores: visitors wait for one another.
_ONE_AT_A_TIME = asyncio.Lock()


class Card:
  """The card; what it has found belongs to one visitor."""

  def __init__(
    self,
    project: Callable[[np.ndarray], Projection],
    use: Callable[[np.ndarray, int | None], Awaitable[None]],
    names: Sequence[str] | None = None,
  ):
    """Builds nothing yet, see `build`.

    Args:
      project: searches uint8 [H, W, C]; called in a thread.
      use: gets the latent [Z] and the class that were found, on request.
      names: of the classes; None if there are none.
    """
    self._project, self._use, self._names = project, use, names
    self._found: Projection | None = None

  def build(self, shape: tuple[int, int, int], rendering: Rendering) -> ui.card:
    """Builds the card.

    Args:
      shape: [H, W, C] of the run's images.
      rendering: how a picture becomes one of them.
    """
    note = 'Searches the image nearest to a picture of yours.'
    with widgets.card('Find it', note) as box:
      widgets.upload('Picture to find', shape, rendering, self._receive)
      with ui.row():
        self._given = widgets.picture('Your picture', 'medium')
        self._nearest = widgets.picture('The nearest image', 'medium')
      with ui.row().classes('items-center'):
        self._spinner = ui.spinner(size='sm')
        self._spinner.set_visibility(False)
        self._text = ui.label().props('role=status')
      self._button = ui.button('Use it', on_click=self._take).props('outline')
      self._button.disable()
    return box

  async def _search(self, image: np.ndarray) -> Projection | None:
    client = ui.context.client
    async with _ONE_AT_A_TIME:
      if client.is_deleted:  # the tab was closed meanwhile
        return None
      return await attempt(self._project, image)

  async def _receive(self, image: np.ndarray) -> None:
    if self._spinner.visible:
      ui.notify('A search is on its way; wait for it.', type='warning')
      return
    widgets.show(self._given, image)
    self._button.disable()
    self._text.set_text('Searching …')
    self._spinner.set_visibility(True)
    try:
      self._found = await self._search(image)
    finally:
      self._spinner.set_visibility(False)
      self._text.set_text('')
    if self._found is not None:
      widgets.show(self._nearest, self._found.images[0])
      self._text.set_text(summary(self._found, self._names))
      self._button.enable()

  async def _take(self) -> None:
    found = self._found
    if found is not None:
      label = None if found.labels is None else int(found.labels[0])
      await self._use(found.latents[0], label)


def summary(found: Projection, names: Sequence[str] | None) -> str:
  """Says how near the image of a single picture is."""
  text = f'PSNR {found.psnr_db[0]:.1f} dB, RMSE {found.rmse[0]:.1f} of 255'
  if found.labels is None or names is None:
    return text
  return f'{text}, class {names[found.labels[0]]}'
