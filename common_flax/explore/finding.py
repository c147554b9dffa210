"""The card "Find it": an uploaded picture is searched in the latents."""

from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Sequence
import threading

from nicegui import ui
import numpy as np

from common_flax.data.rendering import Rendering
from common_flax.explore import widgets
from common_flax.explore.projection import Projection
from common_flax.explore.widgets import attempt

# Searches use all cores: visitors wait for one another.
_ONE_AT_A_TIME = threading.Lock()


def card(
  shape: tuple[int, int, int],
  rendering: Rendering,
  project: Callable[[np.ndarray], Projection],
  use: Callable[[np.ndarray, int | None], Awaitable[None]],
  names: Sequence[str] | None = None,
) -> ui.card:
  """Builds the card.

  Args:
    shape: [H, W, C] of the run's images.
    rendering: how a picture becomes one of them.
    project: searches uint8 [H, W, C]; called in a thread.
    use: gets the latent [Z] and the class that were found, on request.
    names: of the classes; None if there are none.
  """
  found: list[Projection] = []

  def work(image: np.ndarray) -> Projection:
    with _ONE_AT_A_TIME:
      return project(image)

  async def receive(image: np.ndarray) -> None:
    if spinner.visible:
      ui.notify('A search is on its way; wait for it.', type='warning')
      return
    widgets.show(given, image)
    found.clear()
    button.disable()
    text.set_text('Searching …')
    spinner.set_visibility(True)
    try:
      result = await attempt(work, image)
    finally:
      spinner.set_visibility(False)
    text.set_text('')
    if result is None:
      return
    found.append(result)
    widgets.show(nearest, result.images[0])
    text.set_text(summary(result, names))
    button.enable()

  async def take() -> None:
    if found:
      (result,) = found
      label = None if result.labels is None else int(result.labels[0])
      await use(result.latents[0], label)

  note = 'Searches the image nearest to a picture of yours.'
  with widgets.card('Find it', note) as box:
    widgets.upload('Picture to find', shape, rendering, receive)
    with ui.row():
      given = widgets.picture('Your picture').style('width: 128px')
      nearest = widgets.picture('The nearest image').style('width: 128px')
    with ui.row().classes('items-center'):
      spinner = ui.spinner(size='sm')
      spinner.set_visibility(False)
      text = ui.label().props('role=status')
    button = ui.button('Use it', on_click=take).props('outline')
    button.disable()
  return box


def summary(found: Projection, names: Sequence[str] | None) -> str:
  """Says how near the image of a single picture is."""
  text = f'PSNR {found.psnr_db[0]:.1f} dB, RMSE {found.rmse[0]:.1f} of 255'
  if found.labels is None or names is None:
    return text
  return f'{text}, class {names[found.labels[0]]}'
