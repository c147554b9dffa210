"""The explorer's page of a GAN of images: seeds, directions, marks, search.

Dimensions: N samples, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import math

from etils import epath
from nicegui import ui
import numpy as np

from common_flax.explore import widgets
from common_flax.explore.widgets import attempt
from common_flax.explore.widgets import card
from common_flax.explore.widgets import Latest
from common_flax.explore.widgets import picture
from common_flax.explore.widgets import show
from common_flax.explore.widgets import thumbs
from common_flax.explore.widgets import waiting
from gan_flax.explorer import shown
from gan_flax.explorer.search_card import search_card
from gan_flax.trained import Sampler

_NUM_SEEDS = 16  # shown at once
_NUM_NEAREST = 8
_MAX_MARKS = 12
_WHOLE = 3.0  # of the slider of truncation: no limit
_MAX_SEED = 2**32 - 1
_SECONDS_PER_LEG = 1.5  # of a walk
_FRAME = 0.08  # seconds

load = shown.ready_sampler_of


async def build(
  workdir: epath.Path, sampler: Sampler, steps: Sequence[int]
) -> None:
  """Builds the page of one visitor.

  Args:
    workdir: of the run.
    sampler: from `load`.
    steps: of all checkpoints, the newest first.
  """
  if sampler.gan.is_of_points:
    from gan_flax.explorer import points_page  # with Matplotlib's plots

    await points_page.build(workdir, sampler, steps)
  else:
    await Page(workdir, sampler).build()


class Page:
  """What one visitor sees and has chosen."""

  def __init__(self, workdir: epath.Path, sampler: Sampler):
    self.workdir, self.step, self.sampler = workdir, sampler.step, sampler
    gan = sampler.gan
    self.names = sampler.class_names
    self.label = 0 if gan.is_conditional else None
    self.seed = 0
    self.truncation = math.inf
    self.base = shown.latents_of_seeds(sampler, [0])[0]  # [Z]
    self.directions: np.ndarray | None = None
    self.offsets = np.zeros(shown.NUM_DIRECTIONS)
    self.first_seed = 0
    # Latent, label and image of the sample that is shown, and of the marked.
    self.drawn: tuple[np.ndarray, int | None, np.ndarray] | None = None
    self.marks: list[tuple[np.ndarray, int | None, np.ndarray]] = []
    self.draw = Latest(self._draw)
    self.draw_seeds = Latest(self._draw_seeds)

  @property
  def z(self) -> np.ndarray:
    """The latent [Z] that is shown."""
    if self.directions is None or not self.offsets.any():
      return self.base
    moves = self.offsets[: len(self.directions)].astype(self.base.dtype)
    return self.base + moves @ self.directions

  def labels(self, num: int) -> np.ndarray | None:
    """The chosen class for `num` samples."""
    return None if self.label is None else np.full(num, self.label, np.int32)

  def caption(self) -> str:
    """Says what is shown."""
    text = f'|z| = {np.linalg.norm(self.z):.1f}'
    return text if self.label is None else f'{self.names[self.label]}, {text}'

  async def build(self) -> None:
    with ui.element('div').classes('explore-columns'):
      self._sample_card()
      self._directions_card()
      self._marks_card()
      self._seeds_card()
      self._nearest_card()
      search_card(self.sampler, self.show_found, lambda: self.label, self.names)
    await self.draw()
    await self.draw_seeds()
    ui.timer(0.1, self._find_directions, once=True)

  def _sample_card(self) -> None:
    with card('Sample'):
      self.large = picture('The sample')
      self.text = ui.label().classes('explore-note')
      with ui.row().classes('items-center w-full'):
        self.number = ui.number(
          'Seed', value=0, min=0, max=_MAX_SEED, precision=0
        ).props('dense outlined aria-label="Seed"')
        self.number.on_value_change(self._choose_seed)
        ui.button('Another one', on_click=self._another)
        ui.button('Mark', on_click=self._mark).props('outline')
      if self.label is not None:
        names = dict(enumerate(self.names))
        self.classes = ui.select(names, value=0, label='Class')
        self.classes.classes('w-full').on_value_change(self._choose_label)
        self.classes.props('dense outlined aria-label="Class"')
      widgets.slider('Truncation', 0.05, _WHOLE, _WHOLE, self._truncate)
      ui.label(
        f'Largest coordinate of a latent; {_WHOLE:g} is no limit.'
      ).classes('explore-note')
      with ui.row().classes('items-center'):
        self.ask = ui.button(
          "Discriminator's opinion", on_click=self._opinion
        ).props('flat dense')
        self.opinion = ui.label().props('role=status')

  def _directions_card(self) -> None:
    note = 'Principal directions of the first layer, the strongest first.'
    with card('Directions', note):
      count = min(shown.NUM_DIRECTIONS, self.sampler.gan.latent_size)
      self.sliders = [
        widgets.slider(
          f'Direction {i + 1}', -6, 6, 0, lambda e, i=i: self._move(i, e.value)
        )
        for i in range(count)
      ]
      for element in self.sliders:
        element.disable()
      ui.button('Back to the middle', on_click=self.reset).props('outline')

  def _marks_card(self) -> None:
    note = 'Mark samples to mix them, or to walk from one to the next.'
    with card('Marked samples', note):
      self.marked = ui.element('div').classes('explore-thumbs')
      with ui.row().classes('items-center'):
        self.parts = []
        for name, text in (('A', ''), ('B', 'minus'), ('C', 'plus')):
          if text:
            ui.label(text)
          self.parts.append(
            ui.select([], label=name).props(
              f'dense outlined aria-label="{name}" style="width: 5em"'
            )
          )
        ui.button('Mix', on_click=self._mix).props('outline')
      self.walk = widgets.slider('Walk', 0, 1, 0, self._walk, 0.01)
      with ui.row():
        self.play = ui.button('Play', on_click=self._toggle)
        ui.button('Forget them', on_click=self._forget).props('flat')
      self.timer = ui.timer(_FRAME, self._advance, active=False)

  def _seeds_card(self) -> None:
    with card('Seeds', 'Choose one.'):
      self.seeds = ui.element('div').classes('explore-thumbs')
      ui.button('More seeds', on_click=self._more_seeds).props('outline')

  def _nearest_card(self) -> None:
    note = 'By pixels, with the root mean square error from 0 to 255.'
    with card('Nearest training images', note):
      self.near = ui.element('div').classes('explore-thumbs')
      self.search = ui.button('Search', on_click=self._nearest)

  async def _draw(self) -> None:
    """Draws the sample."""
    z, label = self.z, self.label
    images = await attempt(
      shown.images_of, self.sampler, z[None], self.labels(1)
    )
    if images is not None:
      self.drawn = z, label, images[0]
      show(self.large, images[0])
      self.text.set_text(self.caption())
      self.opinion.set_text('')

  async def _draw_seeds(self) -> None:
    seeds = range(self.first_seed, self.first_seed + _NUM_SEEDS)

    def work() -> np.ndarray:
      z = shown.latents_of_seeds(self.sampler, seeds, self.truncation)
      return shown.images_of(self.sampler, z, self.labels(len(z)))

    images = await attempt(work)
    if images is not None:
      thumbs(
        self.seeds,
        images,
        [str(seed) for seed in seeds],
        lambda i: self.number.set_value(seeds[i]),
      )

  async def _find_directions(self) -> None:
    found = await attempt(shown.directions, self.sampler)
    if found is not None:
      self.directions = found
      for element in self.sliders:
        element.enable()

  async def _choose_seed(self, event) -> None:
    value = event.value
    if value is None or not 0 <= value <= _MAX_SEED or value != int(value):
      ui.notify(f'A seed is a number from 0 to {_MAX_SEED}.', type='warning')
      return
    self.seed = int(value)
    await self._rebase()

  async def _rebase(self) -> None:
    """Takes the latent of the seed, within the truncation."""
    self.base = shown.latents_of_seeds(
      self.sampler, [self.seed], self.truncation
    )[0]
    await self.draw()

  def _another(self) -> None:
    self.number.set_value(int(np.random.default_rng().integers(2**31)))

  async def _choose_label(self, event) -> None:
    self.label = event.value
    await self.draw()
    await self.draw_seeds()

  async def _truncate(self, event) -> None:
    self.truncation = math.inf if event.value >= _WHOLE else event.value
    await self._rebase()
    await self.draw_seeds()

  async def _move(self, number: int, value: float) -> None:
    self.offsets[number] = value
    await self.draw()

  def reset(self) -> None:
    """Moves all sliders of directions to the middle."""
    for element in self.sliders:
      element.set_value(0)

  async def _more_seeds(self) -> None:
    self.first_seed += _NUM_SEEDS
    await self.draw_seeds()

  async def show_latent(self, z: np.ndarray, label: int | None) -> None:
    """Shows the sample of a latent [Z]."""
    self.offsets[:] = 0
    self.base = z
    if label is not None:
      self.label = int(label)
      self.classes.set_value(self.label)
    self.reset()
    await self.draw()

  async def show_found(self, z: np.ndarray, label: int | None) -> None:
    """Shows what a search has found, and marks it."""
    await self.show_latent(z, label)
    self._mark()

  def _mark(self) -> None:
    if self.drawn is None:
      return
    if len(self.marks) == _MAX_MARKS:
      ui.notify(
        f'{_MAX_MARKS} samples are marked; forget them first.', type='warning'
      )
      return
    self.marks.append(self.drawn)
    names = [chr(ord('a') + i) for i in range(len(self.marks))]
    thumbs(self.marked, [m[2] for m in self.marks], names, self._show_mark)
    newest = len(names) - 1
    for i, part in enumerate(self.parts):
      # Until there are three, the parts that have none yet take the newest.
      value = names[newest] if i >= newest else part.value
      part.set_options(names, value=value)

  async def _show_mark(self, number: int) -> None:
    if number < len(self.marks):
      await self.show_latent(*self.marks[number][:2])

  def _forget(self) -> None:
    self.marks.clear()
    self.marked.clear()
    self.timer.deactivate()
    self.play.set_text('Play')
    for part in self.parts:
      part.set_options([], value=None)

  async def _mix(self) -> None:
    if not self.marks:
      ui.notify('Mark samples first.', type='warning')
      return
    chosen = [self.marks[ord(part.value) - ord('a')] for part in self.parts]
    z = shown.arithmetic(*[each[0] for each in chosen])
    await self.show_latent(z, chosen[0][1])

  async def _walk(self, event) -> None:
    if len(self.marks) < 2:
      if event.value:
        ui.notify('Mark two samples to walk between them.', type='warning')
      return
    stops = np.stack([mark[0] for mark in self.marks])
    self.base = shown.along_walk(stops, event.value)
    self.offsets[:] = 0
    await self.draw()

  def _toggle(self) -> None:
    if len(self.marks) < 2:
      ui.notify('Mark two samples to walk between them.', type='warning')
      return
    self.timer.active = not self.timer.active
    self.play.set_text('Pause' if self.timer.active else 'Play')

  def _advance(self) -> None:
    legs = max(len(self.marks) - 1, 1)
    value = self.walk.value + _FRAME / (_SECONDS_PER_LEG * legs)
    self.walk.set_value(value if value <= 1 else 0)

  async def _nearest(self) -> None:
    def work() -> tuple[np.ndarray, np.ndarray]:
      images = shown.training_images_of(self.workdir, self.step)
      order, rmse = shown.nearest(images, self.drawn[2], _NUM_NEAREST)
      return images[order], rmse

    with waiting(self.search):
      found = await attempt(work)
    if found is not None:
      thumbs(self.near, found[0], [f'{x:.1f}' for x in found[1]])

  async def _opinion(self) -> None:
    gan = self.sampler.gan

    def work() -> float:
      net = shown.discriminator_of(self.workdir, self.step)
      _, label, image = self.drawn
      return shown.opinion(gan, net, image, label)

    with waiting(self.ask):
      value = await attempt(work)
    if value is not None:
      is_probability = gan.loss.is_classifier
      self.opinion.set_text(
        f'real with {value:.0%}' if is_probability else f'score {value:.2f}'
      )
