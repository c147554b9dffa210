"""Finds the latents of a GAN whose images are nearest to given pictures."""

import dataclasses

import jax
import numpy as np

from common_flax.explore.projection import Projector
from common_flax.explore.projection import Shell
from gan_flax.gan import GAN
from gan_flax.trained import Sampler


@dataclasses.dataclass(frozen=True)
class Render:
  """Draws images of latents, see `common_flax.explore.projection.Render`."""

  gan: GAN

  def __call__(
    self, variables: dict, z: jax.Array, labels: jax.Array | None
  ) -> jax.Array:
    return self.gan.generator.apply(
      variables, z.astype(self.gan.dtype), labels, train=False
    )


def projector(sampler: Sampler) -> Projector:
  """The search in the images of a trained generator."""
  gan = sampler.gan

  def images_of(z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    return np.asarray(sampler.generate_from(z, labels))

  return Projector(
    Render(gan),
    {'params': sampler.params, 'batch_stats': sampler.batch_stats},
    gan.latent_size,
    Shell(gan.latent_distribution == 'uniform'),
    gan.num_classes,
    images_of,
  )
