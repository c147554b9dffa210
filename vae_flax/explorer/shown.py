"""What the explorer shows of a trained VAE, as functions of latents and images.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import NamedTuple

from etils import epath
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import PIL.Image
import PIL.ImageDraw

from common_flax import data
from common_flax import prng
from common_flax.explore import projection
from common_flax.explore.projection import Projection
from common_flax.latents import chunks_of_numbers
from common_flax.likelihoods import observations
from common_flax.workdir import stored_config
from vae_flax import generation
from vae_flax.explorer.projecting import projector
from vae_flax.losses import gaussian_kl
from vae_flax.trained import load
from vae_flax.trained import TrainedVAE
from vae_flax.vae import VAE

_MAX_MAPPED = 2000  # images on a map
MAP_SIZE = 512  # pixels
_DOT = 3  # pixels, radius
_MIN_REACH = 3.0  # of a map, in standard deviations of the prior


class Encoded(NamedTuple):
  """Posteriors of some images of the data.

  Attributes:
    means: [N, Z].
    labels: int32 [N], -1 where there is none.
    kl_nats: [Z], mean over the images of each latent's divergence from N(0, 1);
      None with a learned prior.
    class_names: of class 0 first; None if there are none.
  """

  means: np.ndarray
  labels: np.ndarray
  kl_nats: np.ndarray | None
  class_names: tuple[str, ...] | None


# The static part of each run, by folder and config: what is compiled for one
# checkpoint then serves the others.
_VAES: dict[tuple[epath.Path, str], VAE] = {}


@functools.lru_cache(maxsize=8)  # all visitors share what does not change
def trained_of(workdir: epath.Path, step: int) -> TrainedVAE:
  """The VAE of one checkpoint."""
  trained = load(workdir, step=step)
  key = workdir, stored_config.to_json(trained.config)
  return dataclasses.replace(trained, vae=_VAES.setdefault(key, trained.vae))


def ready_trained_of(workdir: epath.Path, step: int) -> TrainedVAE:
  """The same, once the program that decodes a latent is compiled."""
  trained = trained_of(workdir, step)
  z = np.zeros((1, trained.vae.latent_size), np.float32)
  images_of(trained, z, 0 if trained.vae.is_conditional else None)
  return trained


@functools.lru_cache(maxsize=2)
def encoded_of(workdir: epath.Path, step: int) -> Encoded:
  """Posteriors of held-out images, or of training images if there are none.

  Raises:
    UserError: if the data is not there any more.
  """
  trained = trained_of(workdir, step)
  source = _source(trained)
  num = min(len(source), _MAX_MAPPED)
  examples = [source[i] for i in range(num)]
  images = np.stack([each['image'] for each in examples])
  labels = np.array([each['label'] for each in examples], np.int32)
  is_conditional = trained.vae.is_conditional
  key = prng.stream(prng.root_key(0), 'observe')
  means, kl = [], []
  for numbers in chunks_of_numbers(num):
    some = images[np.minimum(numbers, num - 1)]
    x = generation.observe_by_number(trained.vae, key, some, numbers)
    given = labels[np.minimum(numbers, num - 1)] if is_conditional else None
    mean, log_var = generation.encode(trained.vae, trained.params, x, given)
    means.append(mean)
    kl.append(gaussian_kl(mean, log_var))
  mean, kl = (np.concatenate(each)[:num] for each in (means, kl))
  kl = None if trained.prior is not None else kl.mean(axis=0)
  return Encoded(mean, labels, kl, data.class_names(source))


def _source(trained: TrainedVAE) -> data.Source:
  dataset = trained.config.dataset
  try:
    source = data.load(dataset, 'test')
  except ValueError:  # there is no such split, or the data is missing
    source = data.load(dataset, dataset.split)
  return observations.prepare_source(trained.config, source)


def order_by_use(encoded: Encoded) -> np.ndarray:
  """The latents [Z] by their use, the most used first.

  Use is the divergence, or with a learned prior the variance of the mean.
  """
  use = encoded.kl_nats
  if use is None:
    use = encoded.means.var(axis=0)
  return np.argsort(-use, kind='stable')


def draw(trained: TrainedVAE) -> np.ndarray:
  """Latents [Z] from the prior, others at each call."""
  seed = np.random.default_rng().integers(2**32)
  return np.asarray(trained.latents_of_seeds([seed])[0])


def images_of(
  trained: TrainedVAE, z: np.ndarray, label: int | None = None
) -> np.ndarray:
  """Mean images of latents [N, Z], uint8; a single one is computed alone.

  Args:
    trained: the VAE.
    z: the latents.
    label: the class of a conditional VAE.
  """
  if len(z) > 1:
    return np.asarray(trained.decode(z, label))
  z = jnp.asarray(z, trained.vae.dtype)
  labels = None if label is None else np.full(1, label, np.int32)
  return np.asarray(generation.generate(trained.vae, trained.params, z, labels))


def encode(
  trained: TrainedVAE, image: np.ndarray, label: int | None = None
) -> np.ndarray:
  """The posterior mean [Z] of an image, uint8 [H, W, C], of a class."""
  key = prng.stream(prng.root_key(0), 'observe')
  mean, _ = trained.encode(key, jnp.asarray(image)[None], label)
  return np.asarray(mean)[0]


def reconstruct(
  trained: TrainedVAE, image: np.ndarray, label: int | None = None
) -> Projection:
  """An image's reconstruction from its posterior mean, and its error."""
  z = encode(trained, image, label)[None]
  images = images_of(trained, z, label)
  return Projection(z, None, images, *projection.errors(images, image[None]))


def project(trained: TrainedVAE, image: np.ndarray) -> Projection:
  """Searches the nearest image, from the posterior mean and elsewhere.

  All classes of a conditional VAE are searched, so there is no posterior.
  """
  starts = None
  if not trained.vae.is_conditional:
    starts = encode(trained, image)[None]
  key = jax.random.key(0)
  return projector(trained).project(key, image[None], starts=starts)


def reach(means: np.ndarray) -> float:
  """Half the side of a map that holds means [N, 2]."""
  return max(_MIN_REACH, float(np.abs(means).max()) * 1.05)


def draw_map(
  encoded: Encoded, chosen: Sequence[float] | None = None
) -> np.ndarray:
  """Draws the means of 2 latents, coloured by class, uint8 [S, S, 3].

  Args:
    encoded: with Z = 2.
    chosen: a place [2] to mark.
  """
  limit = reach(encoded.means)
  image = PIL.Image.new('RGB', (MAP_SIZE, MAP_SIZE), 'white')
  draw = PIL.ImageDraw.Draw(image)

  def place(z: Sequence[float]) -> tuple[float, float]:
    scale = MAP_SIZE / (2 * limit)
    return (z[0] + limit) * scale, (limit - z[1]) * scale

  for line in (
    (place((-limit, 0)), place((limit, 0))),
    (place((0, -limit)), place((0, limit))),
  ):
    draw.line(line, fill='#cccccc')
  colours = class_colours(encoded)
  for mean, label in zip(encoded.means, encoded.labels, strict=True):
    draw.circle(place(mean), _DOT, fill=colours[int(label)])
  if chosen is not None:
    draw.circle(place(chosen), 2 * _DOT, outline='black', width=2)
  return np.asarray(image)


def class_colours(encoded: Encoded) -> dict[int, str]:
  """The colour of each class on a map."""
  labels = np.unique(encoded.labels).tolist()
  colours = matplotlib.colormaps['tab10'].colors
  return {
    label: matplotlib.colors.to_hex(colours[i % len(colours)])
    for i, label in enumerate(labels)
  }


def place_on_map(encoded: Encoded, x: float, y: float) -> np.ndarray:
  """The latent [2] at a pixel of `draw_map`."""
  limit = reach(encoded.means)
  x, y = np.clip([x / MAP_SIZE, y / MAP_SIZE], 0, 1)
  return np.array([limit * (2 * x - 1), limit * (1 - 2 * y)], np.float32)
