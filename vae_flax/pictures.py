"""Pictures of a VAE in training: samples and reconstructions.

Dimensions: N images, H height, W width, C channels, Z latent size.
"""

import jax
from ml_collections import ConfigDict
import numpy as np

from common_flax import images as images_lib
from common_flax import prng
from common_flax.cli import labels as labels_lib
from vae_flax import generation
from vae_flax.state import VAEState
from vae_flax.trained import TrainedVAE
from vae_flax.vae import VAE

_COLUMNS = 8
_NUM_SAMPLES = 4 * _COLUMNS
_NUM_RECONSTRUCTIONS = 2 * _COLUMNS


def draw(
  vae: VAE, watched: generation.Watched, root: jax.Array, state: VAEState
) -> np.ndarray:
  """Draws samples at fixed latents, and images above their reconstructions.

  Args:
    vae: the static part.
    watched: the images, the first of which are drawn.
    root: the run's root key, not consumed.
    state: the state.

  Returns:
    A grid, uint8 [H', W', C], whose samples have one class per row.
  """
  params = state.ema_params
  x, labels = jax.tree.map(lambda y: y[:_NUM_RECONSTRUCTIONS], watched)
  classes = labels_lib.of_samples(vae.num_classes, None, _NUM_SAMPLES)
  z = generation.draw_latents(
    vae,
    generation.prior(vae, params),
    prng.stream(root, 'preview'),
    _NUM_SAMPLES,
  )
  samples = generation.generate(vae, params, z, classes)
  mean, _ = generation.encode(vae, params, x, labels)
  reconstructions = generation.generate(vae, params, mean, labels)
  originals = images_lib.from_unit(x)
  rows = []
  for start in range(0, len(x), _COLUMNS):
    here = slice(start, start + _COLUMNS)
    rows += [originals[here], reconstructions[here]]
  return images_lib.grid(np.concatenate([samples, *rows]))


def draw_scored(
  config: ConfigDict, vae: VAE, root: jax.Array, state: VAEState, num: int
) -> np.ndarray:
  """Draws samples from the prior to score in training, uint8 [num, H, W, C]."""
  trained = TrainedVAE(vae, state.ema_params, config, int(state.step))
  labels = trained.balanced_labels(num)
  return np.asarray(
    trained.generate(prng.stream(root, 'evaluate'), num, labels)
  )
