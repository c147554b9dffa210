"""Finds the latents of a VAE whose images are nearest to given pictures.

The encoder's mean is one of the starts. It explains a picture as well as the
prior allows, and so it is no nearest image itself.
"""

import dataclasses

import jax
import numpy as np

from common_flax.explore.projection import Projector
from common_flax.explore.projection import Shell
from vae_flax import inference
from vae_flax.state import Params
from vae_flax.trained import TrainedVAE
from vae_flax.vae import VAE


@dataclasses.dataclass(frozen=True)
class Render:
  """Draws mean images, see `common_flax.explore.projection.Render`."""

  vae: VAE

  def __call__(
    self, params: Params, z: jax.Array, labels: jax.Array | None
  ) -> jax.Array:
    z = z.astype(self.vae.dtype)
    outputs = inference.decode(self.vae, params, z, labels)
    return 2 * self.vae.likelihood.mean(outputs) - 1


def projector(trained: TrainedVAE) -> Projector:
  """The search in the images of a trained decoder."""

  def images_of(z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    return np.asarray(trained.decode(z, labels))

  return Projector(
    Render(trained.vae),
    trained.params,
    trained.vae.latent_size,
    Shell(is_open=trained.prior is not None),
    trained.vae.num_classes,
    images_of,
  )
