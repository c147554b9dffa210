"""The InceptionV3 of FID: the network of 2015-12-05 (Szegedy et al. 2016).

All published FIDs are distances between the features of one trained network
(Heusel et al. 2017, arXiv:1706.08500), whose weights were released with
TensorFlow. It differs from later InceptionV3s: its average pools exclude the
padding, its last block uses max pooling, and it has 1008 outputs. Layers are
named as in the PyTorch weights that pytorch-fid publishes; figure numbers refer
to arXiv:1512.00567.

Dimensions: N images, B images per chunk, H height, W width, C channels.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from common_flax.cpu import compiler
from common_flax.errors import UserError
from common_flax.metrics import inception_weights
from common_flax.metrics.chunks import in_chunks
from common_flax.metrics.resizing import RESIZES

Variables = Mapping[str, Any]

NUM_OUTPUTS = 1008
_EPSILON = 1e-3  # of batch norm
_CHUNK = 32  # B

_SAME = 'SAME'
_VALID = 'VALID'


class Taps(NamedTuple):
  """Outputs at five depths of the network, float32.

  The first four are means over pixels.
  """

  first: jax.Array  # [B, 64]
  second: jax.Array  # [B, 192]
  third: jax.Array  # [B, 768]
  features: jax.Array  # [B, 2048], the features of FID
  logits: jax.Array  # [B, 1008], without biases, for the inception score


class _Unit(nn.Module):
  """Convolution without bias, batch norm, ReLU."""

  features: int
  kernel: tuple[int, int]
  stride: int
  padding: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Conv(
      self.features,
      self.kernel,
      self.stride,
      self.padding,
      use_bias=False,
      precision=jax.lax.Precision.HIGHEST,
      name='conv',
    )(x)
    return nn.relu(
      nn.BatchNorm(use_running_average=True, epsilon=_EPSILON, name='bn')(x)
    )


def _average_pool(x: jax.Array) -> jax.Array:
  """3 x 3 average pooling that excludes the padding."""
  return nn.avg_pool(x, (3, 3), padding=_SAME, count_include_pad=False)


def _max_pool(x: jax.Array) -> jax.Array:
  """3 x 3 max pooling."""
  return nn.max_pool(x, (3, 3), padding=_SAME)


def _halve(x: jax.Array) -> jax.Array:
  """3 x 3 max pooling with stride 2."""
  return nn.max_pool(x, (3, 3), strides=(2, 2))


class InceptionV3(nn.Module):
  """The whole network, for inference only."""

  @nn.compact
  def __call__(self, x: jax.Array) -> Taps:
    """Taps of images [B, H, W, 3] in about [-1, 1]; H and W at least 75."""
    x = self._unit('Conv2d_1a_3x3', x, 32, 3, stride=2)
    x = self._unit('Conv2d_2a_3x3', x, 32, 3, padding=_VALID)
    x = self._unit('Conv2d_2b_3x3', x, 64, 3)
    first = x = _halve(x)
    x = self._unit('Conv2d_3b_1x1', x, 80, 1)
    x = self._unit('Conv2d_4a_3x3', x, 192, 3, padding=_VALID)
    second = x = _halve(x)
    x = self._block_a('Mixed_5b', x, 32)
    x = self._block_a('Mixed_5c', x, 64)
    x = self._block_a('Mixed_5d', x, 64)
    x = self._block_b('Mixed_6a', x)
    x = self._block_c('Mixed_6b', x, 128)
    x = self._block_c('Mixed_6c', x, 160)
    x = self._block_c('Mixed_6d', x, 160)
    third = x = self._block_c('Mixed_6e', x, 192)
    x = self._block_d('Mixed_7a', x)
    x = self._block_e('Mixed_7b', x, _average_pool)
    x = self._block_e('Mixed_7c', x, _max_pool)
    features = _mean_pixel(x)
    classify = nn.Dense(
      NUM_OUTPUTS,
      use_bias=False,
      precision=jax.lax.Precision.HIGHEST,
      name='fc',
    )
    return Taps(
      *map(_mean_pixel, (first, second, third)), features, classify(features)
    )

  def _unit(
    self,
    name: str,
    x: jax.Array,
    features: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    padding: str | None = None,
  ) -> jax.Array:
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = padding or (_SAME if stride == 1 else _VALID)
    return _Unit(features, kernel, stride, padding, name=name)(x)

  def _chain(
    self,
    prefix: str,
    x: jax.Array,
    *units: tuple[int, int | tuple[int, int]],
    last_stride: int = 1,
  ) -> jax.Array:
    """Units in sequence, given as (features, kernel) and numbered from 1."""
    for i, (features, kernel) in enumerate(units, 1):
      stride = last_stride if i == len(units) else 1
      x = self._unit(f'{prefix}_{i}', x, features, kernel, stride=stride)
    return x

  def _block_a(self, name: str, x: jax.Array, pooled: int) -> jax.Array:
    """Figure 5 of the paper."""
    return _side_by_side(
      self._unit(f'{name}.branch1x1', x, 64, 1),
      self._chain(f'{name}.branch5x5', x, (48, 1), (64, 5)),
      self._chain(f'{name}.branch3x3dbl', x, (64, 1), (96, 3), (96, 3)),
      self._unit(f'{name}.branch_pool', _average_pool(x), pooled, 1),
    )

  def _block_b(self, name: str, x: jax.Array) -> jax.Array:
    """Figure 10, from 35 to 17 pixels."""
    return _side_by_side(
      self._unit(f'{name}.branch3x3', x, 384, 3, stride=2),
      self._chain(
        f'{name}.branch3x3dbl', x, (64, 1), (96, 3), (96, 3), last_stride=2
      ),
      _halve(x),
    )

  def _block_c(self, name: str, x: jax.Array, width: int) -> jax.Array:
    """Figure 6: convolutions factorised into 1 x 7 and 7 x 1."""
    row, column = (1, 7), (7, 1)
    return _side_by_side(
      self._unit(f'{name}.branch1x1', x, 192, 1),
      self._chain(
        f'{name}.branch7x7', x, (width, 1), (width, row), (192, column)
      ),
      self._chain(
        f'{name}.branch7x7dbl',
        x,
        (width, 1),
        (width, column),
        (width, row),
        (width, column),
        (192, row),
      ),
      self._unit(f'{name}.branch_pool', _average_pool(x), 192, 1),
    )

  def _block_d(self, name: str, x: jax.Array) -> jax.Array:
    """From 17 to 8 pixels."""
    return _side_by_side(
      self._chain(f'{name}.branch3x3', x, (192, 1), (320, 3), last_stride=2),
      self._chain(
        f'{name}.branch7x7x3',
        x,
        (192, 1),
        (192, (1, 7)),
        (192, (7, 1)),
        (192, 3),
        last_stride=2,
      ),
      _halve(x),
    )

  def _block_e(
    self, name: str, x: jax.Array, pool: Callable[[jax.Array], jax.Array]
  ) -> jax.Array:
    """Figure 7: parallel 1 x 3 and 3 x 1 convolutions."""
    small = self._unit(f'{name}.branch3x3_1', x, 384, 1)
    large = self._chain(f'{name}.branch3x3dbl', x, (448, 1), (384, 3))
    return _side_by_side(
      self._unit(f'{name}.branch1x1', x, 320, 1),
      self._unit(f'{name}.branch3x3_2a', small, 384, (1, 3)),
      self._unit(f'{name}.branch3x3_2b', small, 384, (3, 1)),
      self._unit(f'{name}.branch3x3dbl_3a', large, 384, (1, 3)),
      self._unit(f'{name}.branch3x3dbl_3b', large, 384, (3, 1)),
      self._unit(f'{name}.branch_pool', pool(x), 192, 1),
    )


def _side_by_side(*branches: jax.Array) -> jax.Array:
  return jnp.concatenate(branches, axis=-1)


def _mean_pixel(x: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, C]."""
  return jnp.mean(x, axis=(1, 2))


# Flax's variables -> PyTorch's tensors, and the transpose from theirs to ours.
_TENSORS = {
  ('conv', 'kernel'): ('conv.weight', (2, 3, 1, 0)),
  ('bn', 'scale'): ('bn.weight', (0,)),
  ('bn', 'bias'): ('bn.bias', (0,)),
  ('bn', 'mean'): ('bn.running_mean', (0,)),
  ('bn', 'var'): ('bn.running_var', (0,)),
  ('kernel',): ('weight', (1, 0)),  # the dense layer, 'fc'
}


def variables_from(tensors: Mapping[str, np.ndarray]) -> Variables:
  """Converts PyTorch's tensors to Flax variables.

  Args:
    tensors: by pytorch-fid's names; tensors that are not needed are ignored.

  Raises:
    ValueError: naming a tensor that is missing, not finite, or has the wrong
      shape.
  """
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  expected = jax.eval_shape(InceptionV3().init, jax.random.key(0), image)

  def take(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    _, layer, *rest = (entry.key for entry in path)
    suffix, axes = _TENSORS[tuple(rest)]
    name = f'{layer}.{suffix}'
    if name not in tensors:
      raise ValueError(f'it lacks {name}')
    tensor = np.asarray(tensors[name], np.float32)
    if tensor.ndim != len(axes) or tensor.transpose(axes).shape != leaf.shape:
      raise ValueError(f'{name} has the shape {list(tensor.shape)}')
    if not np.isfinite(tensor).all():
      raise ValueError(f'{name} is not finite')
    return tensor.transpose(axes)

  return jax.tree_util.tree_map_with_path(take, expected)


@dataclasses.dataclass(frozen=True, eq=False)
class Inception:
  """The network with its weights and preprocessing."""

  variables: Variables
  resize: str  # one of RESIZES
  digest: str  # SHA-256 of the weights file


def load(path: str | None, resize: str) -> Inception:
  """Loads the network.

  Args:
    path: of a weights file, whose hash is not checked; None for the published
      weights, which are downloaded the first time.
    resize: how images are resized to 299 x 299 pixels, one of RESIZES.

  Raises:
    UserError: if the weights cannot be found, downloaded or read, or do not fit
      the network.
  """
  file, tensors, digest = inception_weights.read(path)
  try:
    variables = variables_from(tensors)
  except ValueError as error:
    raise UserError(
      f'{file}: not the weights of the 2015-12-05 InceptionV3: {error}; use '
      f'{inception_weights.NAME}'
    ) from error
  return Inception(variables, resize, digest)


@functools.cache
def _forward() -> Callable[..., tuple[jax.Array, jax.Array]]:
  """The compiled network: (variables, images) -> (features, logits)."""

  def forward(variables, x):
    taps = InceptionV3().apply(variables, x)
    return taps.features, taps.logits

  return jax.jit(forward, compiler_options=compiler.for_convolutions())


def activations(
  inception: Inception,
  images: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Applies the network to images.

  Args:
    inception: from `load`.
    images: uint8 [N, H, W, C], C 1 or 3.

  Returns:
    Features float32 [N, 2048] and logits float32 [N, 1008].
  """
  resize = RESIZES[inception.resize]
  forward = functools.partial(_forward(), inception.variables)
  return in_chunks(lambda x: forward(resize(x)), images, _CHUNK)
