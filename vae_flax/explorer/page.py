"""The explorer's page of a VAE: pictures, latents, the map of the data.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import functools

from etils import epath
from nicegui import events
from nicegui import ui
import numpy as np

from common_flax import data
from common_flax.explore import finding
from common_flax.explore import widgets
from common_flax.explore.canvas import canvas
from common_flax.explore.widgets import attempt
from common_flax.explore.widgets import card
from common_flax.explore.widgets import Latest
from common_flax.explore.widgets import picture
from common_flax.explore.widgets import show
from vae_flax.explorer import shown
from vae_flax.trained import TrainedVAE

_REACH = 4.0  # of a slider, in standard deviations of the prior
_MAX_SLIDERS = 16

load = shown.ready_trained_of


async def build(
  workdir: epath.Path, trained: TrainedVAE, steps: Sequence[int]
) -> None:
  """Builds the page of one visitor.

  Args:
    workdir: of the run.
    trained: from `load`.
    steps: of all checkpoints, the newest first.
  """
  del steps
  await Page(workdir, trained).build()


class Page:
  """What one visitor sees and has chosen."""

  def __init__(self, workdir: epath.Path, trained: TrainedVAE):
    self.workdir, self.trained = workdir, trained
    self.centre, deviation = map(np.asarray, trained.prior_moments())
    self.reach = _REACH * deviation
    self.z = self.centre.astype(np.float32)
    self.label = 0 if trained.vae.is_conditional else None
    self.encoded: shown.Encoded | None = None
    self.sliders: dict[int, ui.slider] = {}  # by latent
    self.draw = Latest(self._draw)
    self.draw_map = Latest(self._draw_map)

  async def build(self) -> None:
    vae = self.trained.vae
    rendering = data.rendering_of(self.trained.config.dataset)
    with ui.element('div').classes('explore-columns'):
      with card('Image', 'Decoded from the latents.'):
        self.large = picture('The decoded image')
        self.text = ui.label().classes('explore-note')
        with ui.row():
          ui.button('Another one', on_click=self._another)
          ui.button(
            'The mean', on_click=lambda: self.set_latent(self.centre)
          ).props('outline')
        if self.label is not None:
          names = dict(enumerate(self.trained.class_names))
          self.classes = ui.select(names, value=0, label='Class')
          self.classes.classes('w-full').on_value_change(self._choose_label)
          self.classes.props('dense outlined aria-label="Class"')
      self.latents = card('Latents', 'The most used first.')
      if vae.latent_size == 2:
        self._map_card()
      with card('Encode a picture', 'Draw one, or upload one.'):
        canvas(vae.image_shape, rendering, self._encode)
        widgets.upload(
          'Picture to encode', vae.image_shape, rendering, self._encode
        )
        with ui.row():
          self.given = picture('The picture', 'medium')
          self.again = picture('Its reconstruction', 'medium')
        self.error = ui.label().props('role=status')
      project = functools.partial(shown.project, self.trained)
      finding.Card(project, self._use, self.trained.class_names).build(
        vae.image_shape, rendering
      )
    await self.draw()
    encoded = await attempt(shown.encoded_of, self.workdir, self.trained.step)
    self.encoded = encoded
    self._build_sliders()
    await self.draw_map()

  def _map_card(self) -> None:
    with card('Map of the data', 'Means of the posteriors. Click a place.'):
      self.map = ui.interactive_image(
        size=(shown.MAP_SIZE, shown.MAP_SIZE),
        on_mouse=self._click,
        events=['click'],
        cross=True,
      ).classes('explore-wide')
      self.map.props('role=img aria-label="Map of the latents"')
      self.legend = ui.row().classes('gap-2')

  def _build_sliders(self) -> None:
    size = len(self.z)
    order, kl = np.arange(size), None
    if self.encoded is not None:
      order, kl = shown.order_by_use(self.encoded), self.encoded.kl_nats
    with self.latents:
      for latent in order[:_MAX_SLIDERS].tolist():
        name = f'Latent {latent + 1}'
        if kl is not None:
          name += f' ({kl[latent]:.2f} nats)'
        centre, reach = float(self.centre[latent]), float(self.reach[latent])
        self.sliders[latent] = widgets.slider(
          name,
          centre - reach,
          centre + reach,
          float(self.z[latent]),
          lambda event, latent=latent: self._move(latent, event.value),
        )
      if size > _MAX_SLIDERS:
        ui.label(f'And {size - _MAX_SLIDERS} more.').classes('explore-note')

  async def _draw(self) -> None:
    images = await attempt(
      shown.images_of, self.trained, self.z[None], self.label
    )
    if images is not None:
      show(self.large, images[0])
      self.text.set_text(f'|z| = {np.linalg.norm(self.z):.1f}')

  async def _draw_map(self) -> None:
    if self.encoded is None or len(self.z) != 2:
      return
    url = await attempt(
      lambda: widgets.uploads.to_url(shown.draw_map(self.encoded, self.z))
    )
    if url is not None:
      self.map.set_source(url)
    if not self.legend.default_slot.children:
      names = self.encoded.class_names
      with self.legend:
        for label, colour in shown.class_colours(self.encoded).items():
          name = str(label) if names is None or label < 0 else names[label]
          with ui.row().classes('gap-1 no-wrap'):
            ui.label('●').style(f'color: {colour}')
            ui.label(name)

  async def _move(self, latent: int, value: float) -> None:
    if value is None or abs(self.z[latent] - value) < 1e-6:
      return
    self.z = self.z.copy()
    self.z[latent] = value
    await self.draw()
    await self.draw_map()

  async def set_latent(self, z: np.ndarray) -> None:
    """Shows the image of a latent [Z], and moves the sliders there."""
    self.z = np.asarray(z, np.float32)
    for latent, element in self.sliders.items():
      element.set_value(float(self.z[latent]))
    self.z = np.asarray(z, np.float32)  # sliders end at their reach
    await self.draw()
    await self.draw_map()

  async def _another(self) -> None:
    await self.set_latent(shown.draw(self.trained))

  async def _click(self, event: events.MouseEventArguments) -> None:
    if self.encoded is not None:
      await self.set_latent(
        shown.place_on_map(self.encoded, event.image_x, event.image_y)
      )

  async def _encode(self, image: np.ndarray) -> None:
    show(self.given, image)
    found = await attempt(shown.reconstruct, self.trained, image, self.label)
    if found is not None:
      show(self.again, found.images[0])
      self.error.set_text(finding.summary(found, None))
      await self.set_latent(found.latents[0])

  async def _choose_label(
    self, event: events.ValueChangeEventArguments
  ) -> None:
    self.label = event.value
    await self.draw()

  async def _use(self, z: np.ndarray, label: int | None) -> None:
    if label is not None:
      self.classes.set_value(label)
    await self.set_latent(z)
