"""The card that finds an uploaded picture in the latents of a GAN."""

from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Sequence

import jax
from nicegui import ui
import numpy as np

from common_flax import data
from common_flax.explore import finding
from gan_flax.explorer.projecting import projector
from gan_flax.trained import Sampler


def search_card(
  sampler: Sampler,
  use: Callable[[np.ndarray, int | None], Awaitable[None]],
  chosen_label: Callable[[], int | None],
  names: Sequence[str] | None,
) -> None:
  """Builds the card.

  Args:
    sampler: in which pictures are searched.
    use: gets the latent [Z] and the class that were found, on request.
    chosen_label: the class on the page.
    names: of the classes; None if there are none.
  """
  only_chosen = None

  def project(image: np.ndarray):
    is_limited = only_chosen is not None and only_chosen.value
    label = chosen_label() if is_limited else None
    return projector(sampler).project(jax.random.key(0), image[None], label)

  box = finding.Card(project, use, names).build(
    sampler.gan.example_shape, data.rendering_of(sampler.config.dataset)
  )
  if names is not None:
    with box:
      only_chosen = ui.checkbox('Only in the chosen class')
