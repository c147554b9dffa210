"""Resizing to the 299 x 299 pixels of InceptionV3.

The FID depends on the resizing method, largely through aliasing (Parmar et al.
2022, arXiv:2104.11222).

Dimensions: N images, H height, W width, C channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

SIZE = 299  # pixels


def clean(images: np.ndarray) -> np.ndarray:
  """Resizes as clean-fid: Pillow's bicubic filter, which antialiases.

  Each channel is resized in float32, so values are not rounded in between.

  Args:
    images: uint8 [N, H, W, C], C 1 or 3.

  Returns:
    (x - 128) / 128, float32 [N, 299, 299, 3].
  """
  resized = images.astype(np.float32)
  if images.shape[1:3] != (SIZE, SIZE):
    resized = np.stack([_bicubic(image) for image in resized])
  return (_coloured(resized) - 128) / 128


def _bicubic(image: np.ndarray) -> np.ndarray:
  """Floats [H, W, C] -> [299, 299, C], clipped to [0, 255]."""
  channels = [
    PIL.Image.fromarray(image[..., c]).resize(
      (SIZE, SIZE), PIL.Image.Resampling.BICUBIC
    )
    for c in range(image.shape[-1])
  ]
  return np.clip(np.stack(channels, axis=-1), 0, 255)


def legacy(images: np.ndarray) -> jax.Array:
  """Resizes as pytorch-fid: bilinear with half-pixel centres, no antialias.

  Args:
    images: uint8 [N, H, W, C], C 1 or 3.

  Returns:
    2 x / 255 - 1, float32 [N, 299, 299, 3].
  """
  x = jnp.asarray(images, jnp.float32) / 255
  return 2 * _bilinear(_coloured(x)) - 1


@jax.jit
def _bilinear(x: jax.Array) -> jax.Array:
  shape = (len(x), SIZE, SIZE, x.shape[-1])
  return jax.image.resize(
    x, shape, 'bilinear', antialias=False, precision=jax.lax.Precision.HIGHEST
  )


def _coloured(images: np.ndarray) -> np.ndarray:
  """Repeats a grey channel three times."""
  if images.shape[-1] == 3:
    return images
  return images.repeat(3, axis=-1)


# Images uint8 [N, H, W, C] -> network inputs float32 [N, 299, 299, 3].
RESIZES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  'clean': clean,
  'legacy': legacy,
}
