"""The kinds of pictures, each a function from numbers to latents or images.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import stats
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import labels as labels_lib
from common_flax.data.source import Source
from common_flax.errors import UserError
from common_flax.latents import CHUNK
from common_flax.latents import chunks_of_numbers
from common_flax.latents import LatentsOf
from common_flax.latents import slerp
from vae_flax import generation
from vae_flax.models.groups import group_shapes
from vae_flax.trained import TrainedVAE

COLUMNS = 8
_REACH = 3.0  # of a traversal, in standard deviations of the prior


@dataclasses.dataclass(frozen=True)
class Drawing:
  """What every kind of picture is drawn from."""

  trained: TrainedVAE
  root: jax.Array  # key of all random draws, not consumed
  open_source: Callable[[], Source]  # opens the images, if a kind needs them
  is_in_order: bool = False  # whether image i is that of the source
  label: Sequence[str] | None = None  # value of --label
  temperature: float = 1.0  # multiplies the deviations of the prior

  def images(self, source: Source, numbers: np.ndarray) -> np.ndarray:
    """Images of the source by number, which wraps around its length.

    Unless they are in order, the source is shuffled.
    """
    chosen = self._chosen(source, numbers)
    return np.stack([source[int(i)]['image'] for i in chosen])

  def labels(self, source: Source, numbers: np.ndarray) -> jax.Array | None:
    """The labels of `images`; None if the VAE takes none."""
    chosen = self._chosen(source, numbers)
    return generation.labels_of(self.trained.vae, source, chosen)

  def _chosen(self, source: Source, numbers: np.ndarray) -> np.ndarray:
    """The places of `images` in the source."""
    chosen = numbers % len(source)
    if self.is_in_order:
      return chosen
    order = np.random.default_rng(
      np.asarray(jax.random.key_data(self.root))
    ).permutation(len(source))
    return order[chosen]

  def classes(self, num: int) -> np.ndarray | None:
    """The classes of --label, one per row of images; int32 [num]."""
    trained = self.trained
    return labels_lib.of_flags(
      trained.vae.num_classes, trained.class_names, self.label, num
    )

  def x(self, images: np.ndarray, numbers: np.ndarray) -> jax.Array:
    """The observations x of images, each drawn from its number's key."""
    key = prng.stream(self.root, 'observe')
    return generation.observe_by_number(
      self.trained.vae, key, jnp.asarray(images), jnp.asarray(numbers)
    )

  def posteriors(
    self, source: Source, numbers: np.ndarray
  ) -> tuple[jax.Array, jax.Array]:
    """Means and log-variances [N, Z] of images by their numbers."""
    x = self.x(self.images(source, numbers), numbers)
    labels = self.labels(source, numbers)
    return generation.encode(self.trained.vae, self.trained.params, x, labels)

  def means(self, source: Source, numbers: np.ndarray) -> jax.Array:
    """Posterior means [N, Z] of images by their numbers."""
    return self.posteriors(source, numbers)[0]


class Drawn(NamedTuple):
  """What images are decoded from.

  Attributes:
    latents_of: their latents by number.
    labels: their classes, int32 [N]; None if the VAE takes none.
  """

  latents_of: LatentsOf
  labels: np.ndarray | None


def reconstructions(drawing: Drawing, num: int) -> Iterator[jax.Array]:
  """Yields images, each followed by its reconstruction, at most 64 at a time.

  Args:
    drawing: what they are drawn from.
    num: number of images and reconstructions.
  """
  source = drawing.open_source()
  for places in chunks_of_numbers(num):
    numbers = places[::2] // 2  # two places per image
    x = drawing.x(drawing.images(source, numbers), numbers)
    vae, params = drawing.trained.vae, drawing.trained.params
    labels = drawing.labels(source, numbers)
    mean, _ = generation.encode(vae, params, x, labels)
    decoded = generation.generate(vae, params, mean, labels)
    pairs = jnp.stack([images_lib.from_unit(x), decoded], axis=1)
    yield pairs.reshape(CHUNK, *vae.image_shape)[: num - places[0]]


def from_top_groups(drawing: Drawing, num: int) -> Iterator[jax.Array]:
  """Yields rows of an image and of what the top groups know of it.

  The first picture of a row is an image. The others are decoded from 0 of its
  groups of latents, which is the same picture in all rows, up to all of them;
  what lies below is at the mean of its prior.

  Args:
    drawing: what they are drawn from, of a hierarchy.
    num: number of pictures.
  """
  source = drawing.open_source()
  vae, params = drawing.trained.vae, drawing.trained.params
  sizes = list(filter(None, map(math.prod, group_shapes(vae.scales))))
  counts = np.rint(np.linspace(0, len(sizes), COLUMNS - 1)).astype(int)
  group_of_latent = np.repeat(np.arange(len(sizes)), sizes)
  is_known = jnp.asarray(group_of_latent < counts[:, None])  # [7, Z]
  for places in chunks_of_numbers(num):
    numbers = places[::COLUMNS] // COLUMNS
    x = drawing.x(drawing.images(source, numbers), numbers)
    mean, _ = generation.encode(vae, params, x)
    latents = jnp.where(is_known, mean[:, None], 0.0)
    decoded = generation.generate(
      vae, params, latents.reshape(-1, vae.latent_size)
    )
    decoded = decoded.reshape(len(numbers), -1, *vae.image_shape)
    rows = jnp.concatenate([images_lib.from_unit(x)[:, None], decoded], axis=1)
    yield rows.reshape(-1, *vae.image_shape)[: num - places[0]]


def _prior(drawing: Drawing, num: int) -> Drawn:
  key = prng.stream(drawing.root, 'sample')
  trained = drawing.trained

  def latents_of(numbers: np.ndarray) -> jax.Array:
    return generation.latents_by_number(
      trained.vae, trained.prior, key, numbers, drawing.temperature
    )

  return Drawn(latents_of, drawing.classes(num))


def _interpolation(drawing: Drawing, num: int) -> Drawn:
  source = drawing.open_source()
  # Pictures in order are walked along; of a split, every row is another pair.
  stride = 1 if drawing.is_in_order else 2

  def latents_of(numbers: np.ndarray) -> jax.Array:
    rows, columns = np.divmod(numbers, COLUMNS)
    starts = drawing.means(source, stride * rows)
    ends = drawing.means(source, stride * rows + 1)
    shares = jnp.asarray(columns / (COLUMNS - 1), starts.dtype)
    return jax.vmap(slerp)(starts, ends, shares)

  rows = np.arange(num) // COLUMNS
  return Drawn(latents_of, drawing.labels(source, stride * rows))


def _traversal(drawing: Drawing, num: int) -> Drawn:
  source = drawing.open_source()
  trained = drawing.trained
  watched = np.arange(min(generation.NUM_WATCHED, len(source)))
  use = generation.latent_use(
    trained.vae,
    trained.params,
    drawing.x(drawing.images(source, watched), watched),
    drawing.labels(source, watched),
  )
  by_use = np.argsort(-np.asarray(use['kl_per_latent_nats']))
  middle, deviation = map(np.asarray, trained.prior_moments())
  centre = np.asarray(drawing.means(source, watched[:1]))[0]

  def latents_of(numbers: np.ndarray) -> jax.Array:
    rows, columns = np.divmod(numbers, COLUMNS)
    z = np.tile(centre, (len(numbers), 1))
    latents = by_use[rows % len(by_use)]
    places = _REACH * (2 * columns / (COLUMNS - 1) - 1)
    places = middle[latents] + deviation[latents] * places
    z[np.arange(len(numbers)), latents] = places
    return jnp.asarray(z)

  labels = drawing.labels(source, watched[:1])
  return Drawn(latents_of, None if labels is None else np.repeat(labels, num))


def _manifold(drawing: Drawing, num: int) -> Drawn:
  if drawing.label is not None and len(drawing.label) > 1:
    raise UserError(
      f'--label={",".join(drawing.label)}: a manifold shows one class; name one'
    )
  side = manifold_side(num)
  middle, deviation = drawing.trained.prior_moments()
  # Equally spaced in probability under the prior (Kingma & Welling 2013).
  places = stats.norm.ppf((jnp.arange(side) + 0.5) / side)

  def latents_of(numbers: np.ndarray) -> jax.Array:
    rows, columns = np.divmod(np.minimum(numbers, side**2 - 1), side)
    # The second latent increases upwards.
    z = jnp.stack([places[columns], places[side - 1 - rows]], axis=1)
    z = middle[None] + deviation[None] * z
    return z.astype(drawing.trained.vae.dtype)

  classes = drawing.classes(1)
  return Drawn(latents_of, None if classes is None else np.repeat(classes, num))


def manifold_side(num: int) -> int:
  """Images per row and per column of a manifold."""
  return int(np.sqrt(num))


# (drawing, number of images) -> what they are decoded from
KINDS: dict[str, Callable[[Drawing, int], Drawn]] = {
  'prior': _prior,
  'interpolation': _interpolation,
  'traversal': _traversal,
  'manifold': _manifold,
}
RECONSTRUCTION = 'reconstruction'
GROUPS = 'groups'


def columns(kind: str, num: int) -> int | None:
  """Images per row of the grid; None for a square grid."""
  if kind == 'manifold':
    return manifold_side(num)
  return None if kind == 'prior' else COLUMNS


def check_square(kind: str, num: int) -> None:
  """Checks that the images of a manifold fill a square.

  Raises:
    UserError: naming numbers that do.
  """
  side = manifold_side(num)
  if kind == 'manifold' and side**2 != num:
    raise UserError(
      f'--num_samples={num}: a manifold is a square of images; use {side**2} '
      f'or {(side + 1) ** 2}'
    )
