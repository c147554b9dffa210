"""The explorer's page of a toy world: points and opinion over steps."""

from collections.abc import Sequence
import functools

from etils import epath
from nicegui import ui
import numpy as np

from common_flax.data.worlds import WORLDS
from common_flax.explore import widgets
from common_flax.explore.widgets import attempt
from common_flax.explore.widgets import Latest
from gan_flax import generation
from gan_flax import pictures
from gan_flax.explorer import shown
from gan_flax.trained import Sampler

_NUM_POINTS = 1000


@functools.lru_cache(maxsize=64)
def world_picture(
  workdir: epath.Path, step: int, truncation: float, has_surface: bool
) -> np.ndarray:
  """Draws the samples of a checkpoint over the discriminator's opinion.

  Args:
    workdir: of the run; of several seeds, the first is drawn.
    step: of the checkpoint.
    truncation: largest coordinate of a latent.
    has_surface: whether to draw the opinion; a conditional discriminator has
      one for each class, and none is drawn.

  Returns:
    uint8 [S, S, 3].

  Raises:
    UserError: if the checkpoint cannot be read.
  """
  sampler = shown.sampler_of(workdir, step)
  gan = sampler.gan
  z = shown.latents_of_seeds(sampler, range(_NUM_POINTS), truncation)
  labels = generation.class_by_number(gan, np.arange(_NUM_POINTS))
  points = shown.images_of(sampler, z, labels)
  world = WORLDS[sampler.config.dataset.name]
  if gan.is_conditional or not has_surface:
    return pictures.picture(world, points)
  net = shown.discriminator_of(workdir, step)
  surface = functools.partial(generation.discriminator_output, gan, net)
  return pictures.picture(world, points, surface, gan.loss.is_classifier)


async def build(
  workdir: epath.Path, sampler: Sampler, steps: Sequence[int]
) -> None:
  """Builds the page of one visitor; takes the arguments of `page.build`."""
  ordered = sorted(steps)
  note = (
    'Samples over the modes (green). The background is the opinion of the '
    'discriminator: blue is real, red generated.'
  )
  with ui.element('div').classes('explore-columns'):
    with widgets.card(f'The world {sampler.config.dataset.name}', note):
      image = widgets.picture('Samples in the plane', 'wide')
      text = ui.label().props('role=status').classes('explore-note')
    with widgets.card('Over steps'):
      last = len(ordered) - 1
      is_known = sampler.step in ordered
      place = widgets.slider(
        'Step',
        0,
        max(last, 1),
        ordered.index(sampler.step) if is_known else last,
        lambda event: draw(),
        1,
        lambda index: f'{ordered[min(int(index), last)]:,}',
      )
      limit = widgets.slider('Truncation', 0.1, 3, 3, lambda event: draw(), 0.1)
      surface = ui.checkbox(
        "Discriminator's opinion", value=True, on_change=lambda event: draw()
      )

  async def redraw() -> None:
    index = min(int(place.value), len(ordered) - 1)
    truncation = float('inf') if limit.value >= 3 else float(limit.value)
    drawn = await attempt(
      world_picture, workdir, ordered[index], truncation, surface.value
    )
    if drawn is not None:
      widgets.show(image, drawn)
      text.set_text(f'Step {ordered[index]:,}')

  draw = Latest(redraw)
  await draw()
