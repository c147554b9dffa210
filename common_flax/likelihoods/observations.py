"""Maps the bytes of an image to x, the variable of the likelihood.

There are three ways to binarise. They define different data sets, so their
likelihoods cannot be compared. 'stochastic' draws new images at every use: the
probability that a pixel is 1 is its grey level. 'fixed' draws them once, with a
seed. 'threshold' sets grey levels of at least one half to 1.

Dimensions: B batch, H height, W width, C channels.
"""

from collections.abc import Callable
import dataclasses
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from common_flax.cpu.fusion import computed_once
from common_flax.cpu.threefry import unrolled
from common_flax.data.source import ArraySource
from common_flax.data.source import Source
from common_flax.distributed.sharding import BatchAxis
from common_flax.distributed.sharding import WHOLE_BATCH
from common_flax.errors import UserError
from common_flax.likelihoods.likelihood import Likelihood

# (key, uint8 [B, H, W, C], dtype, axis) -> x [B, H, W, C]. The key is consumed
# if the function draws.
Observe = Callable[..., jax.Array]


_THRESHOLD = 128  # the lowest byte that becomes 1


def _thresholds(images: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
  """Rounds 2^16 * byte / 255: a pixel is 1 if 16 random bits are below it."""
  return (images.astype(np.uint32) * 2**16 + 127) // 255


def binarise(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis: BatchAxis = WHOLE_BATCH,
) -> jax.Array:
  """Draws binary images: 1 with probability byte / 255, to within 2^-17.

  Args:
    key: consumed.
    images: uint8 [B, H, W, C].
    dtype: type of the result.
    axis: splits the batch over devices.

  Returns:
    [B, H, W, C], each 0 or 1.
  """
  # One row per image fills a CPU's vectors better than rows of pixels.
  num_values = math.prod(images.shape[1:])
  # 16 bits resolve the 256 greys well and are faster to draw than floats.
  bits = axis.draw(
    lambda num: jax.random.bits(unrolled(key), (num, num_values), jnp.uint16),
    len(images),
  )
  thresholds = _thresholds(images.reshape(len(images), num_values))
  x = computed_once((bits < thresholds).astype(dtype))
  return x.reshape(images.shape)


def threshold(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis: BatchAxis = WHOLE_BATCH,
) -> jax.Array:
  """Returns 1 where the grey level is at least one half; draws nothing."""
  del key, axis
  return (images >= _THRESHOLD).astype(dtype)


def dequantise(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis: BatchAxis = WHOLE_BATCH,
) -> jax.Array:
  """Returns (byte + u) / 256 with noise u ~ U(0, 1).

  A density needs continuous values: on bytes it could grow without bound.

  Args:
    key: consumed.
    images: uint8 [B, H, W, C].
    dtype: type of the result.
    axis: splits the batch over devices.

  Returns:
    [B, H, W, C] in [0, 1].
  """
  noise = axis.draw(
    lambda num: jax.random.uniform(key, (num, *images.shape[1:]), dtype),
    len(images),
  )
  return (images.astype(dtype) + noise) / 256


def scale(
  key: jax.Array,
  images: jax.Array,
  dtype: jnp.dtype = jnp.float32,
  axis: BatchAxis = WHOLE_BATCH,
) -> jax.Array:
  """Scales bytes to [0, 1]; draws nothing."""
  del key, axis
  return images.astype(dtype) / 255


def create(binarisation: str, likelihood: Likelihood) -> Observe:
  """What a likelihood observes of images.

  Args:
    binarisation: `config.dataset.binarise`.
    likelihood: the likelihood.
  """
  if not likelihood.is_binary:
    return dequantise if likelihood.is_density else scale
  # 'fixed' images are already binary, see `fix`.
  return binarise if binarisation == 'stochastic' else threshold


def is_random(observe: Observe) -> bool:
  """Whether observations of an image are drawn at random."""
  return observe in (binarise, dequantise)


def fix(images: np.ndarray, seed: int) -> np.ndarray:
  """Draws binary images once, with a fixed seed.

  Args:
    images: uint8 [N, H, W, C].
    seed: seed of the draw.

  Returns:
    uint8 [N, H, W, C] of 0 and 255, which `threshold` maps to 0 and 1.
  """
  random = np.random.Philox(key=[seed, 0])
  fixed = np.empty_like(images)
  for image, result in zip(images, fixed, strict=True):
    words = random.random_raw((image.size + 3) // 4)
    bits = words.view(np.uint16)[: image.size].reshape(image.shape)
    result[...] = np.where(bits < _thresholds(image), 255, 0)
  return fixed


def prepare_source(config: ConfigDict, source: Source) -> Source:
  """Applies `config.dataset.binarise='fixed'`, which draws binary images once.

  Args:
    config: the run's config.
    source: images of the data set.

  Returns:
    A source of binary images, or `source` itself for any other `binarise`.

  Raises:
    UserError: if the images do not fit into memory.
  """
  if config.dataset.binarise != 'fixed':
    return source
  if not (isinstance(source, ArraySource) and source.is_in_memory):
    raise UserError(
      "config.dataset.binarise='fixed': needs data that fits into memory; use "
      "'stochastic' or 'threshold'"
    )
  fixed = fix(source.examples, config.dataset.binarise_seed)
  return dataclasses.replace(source, examples=fixed)


def as_observed(config: ConfigDict, source: Source) -> Source:
  """The images as a model observes them, for comparison with its samples.

  With `binarise='threshold'` they are black and white. With 'stochastic',
  pixels stay grey, which is the mean of their draws.

  Args:
    config: the run's config.
    source: from `prepare_source`.
  """
  if config.dataset.binarise != 'threshold':
    return source
  return _BlackAndWhite(source)


@dataclasses.dataclass(frozen=True, eq=False)
class _BlackAndWhite:
  """A source of the thresholded images of another source."""

  source: Source

  @property
  def example_shape(self) -> tuple[int, ...]:
    return self.source.example_shape

  @property
  def dtype(self) -> np.dtype:
    return self.source.dtype

  @property
  def num_classes(self) -> int | None:
    return self.source.num_classes

  def __len__(self) -> int:
    return len(self.source)

  def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
    example = self.source[index]
    image = np.where(example['image'] >= _THRESHOLD, 255, 0)
    return {**example, 'image': image.astype(np.uint8)}
