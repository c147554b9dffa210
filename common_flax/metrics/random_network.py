"""A fixed random convolutional network: features without weights or labels.

Its features separate sets of images better than raw pixels do, and are the same
on every machine. They are weaker than those of a trained network; Naeem et al.
(2020, arXiv:2002.09797, section 5) find random embeddings useful where
pretrained ones do not fit the data.

Dimensions: N images, B images per chunk, H height, W width, C channels,
F features.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from common_flax import images as images_lib
from common_flax.metrics.chunks import in_chunks

NUM_FEATURES = 256  # F

# Part of the cache key: increment when the network changes.
_VERSION = 1
_SEED = 0
_FIRST_WIDTH, _LAST_WIDTH = 32, 128  # features of the convolutions
_LARGEST_MAP = 4  # pixels; larger feature maps are halved again
_CHUNK = 250
_HE = nn.initializers.he_normal()

DIGEST = f'random-{_VERSION}-{_SEED}'


class _Network(nn.Module):
  """Strided convolutions, then a linear projection.

  He initialisation (He et al. 2015, arXiv:1502.01852) keeps the scale of the
  activations constant across layers.
  """

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Features [B, F] of images in [-1, 1], [B, H, W, C]."""
    conv = functools.partial(
      nn.Conv,
      kernel_size=(3, 3),
      strides=2,
      kernel_init=_HE,
      precision=jax.lax.Precision.HIGHEST,
    )
    x, width = images, _FIRST_WIDTH
    while max(x.shape[1:3]) > _LARGEST_MAP:
      x = nn.relu(conv(width)(x))
      width = min(2 * width, _LAST_WIDTH)
    project = nn.Dense(
      NUM_FEATURES, kernel_init=_HE, precision=jax.lax.Precision.HIGHEST
    )
    return project(x.reshape(len(x), -1))


@jax.jit
def _forward(params: dict, images: jax.Array) -> jax.Array:
  return _Network().apply({'params': params}, images_lib.to_signed(images))


def features(images: np.ndarray) -> np.ndarray:
  """Applies the network to images.

  Args:
    images: uint8 [N, H, W, C].

  Returns:
    float32 [N, F].
  """
  # threefry gives the same bits on every platform.
  key = jax.random.key(_SEED, impl='threefry2x32')
  one = jnp.zeros((1, *images.shape[1:]))
  params = jax.jit(_Network().init)(key, one)['params']
  return in_chunks(functools.partial(_forward, params), images, _CHUNK)
