"""Convolutions as Flax modules.

Parameters, 'SAME' padding and results are those of `flax.linen.Conv` and
`flax.linen.ConvTranspose`. Stride 2 uses `common_flax.nn.conv`. PyTorch's
weights can be converted.

Dimensions: B batch, H height, W width, I input and O output features, k kernel.
"""

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from common_flax.nn.conv import LAYOUT
from common_flax.nn.conv import strided
from common_flax.nn.conv import transposed


class Conv(nn.Module):
  """Convolution that divides height and width by `stride`.

  The parameter `kernel` and the result are those of
  `nn.Conv(features, (k, k), strides=stride, use_bias=use_bias)`.
  """

  features: int
  kernel_size: int
  stride: int = 2
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    _check_stride(self.stride)
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    has_odd_side = x.shape[1] % 2 or x.shape[2] % 2
    if self.stride == 1 or has_odd_side or self.kernel_size == 1:
      strides = (self.stride, self.stride)
      y = lax.conv_general_dilated(
        x, kernel, strides, 'SAME', dimension_numbers=LAYOUT
      )
    else:
      y = strided(x, kernel)
    return _with_bias(self, y)


class TransposedConv(nn.Module):
  """Transposed convolution that multiplies height and width by `stride`.

  The parameter `kernel` and the result are those of
  `nn.ConvTranspose(features, (k, k), strides=(stride, stride),
  use_bias=use_bias)`.
  """

  features: int
  kernel_size: int
  stride: int = 2
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    _check_stride(self.stride)
    shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    if self.stride == 1 or self.kernel_size == 1:
      strides = (self.stride, self.stride)
      y = lax.conv_transpose(
        x, kernel, strides, 'SAME', dimension_numbers=LAYOUT
      )
    else:
      # nn.ConvTranspose stores the kernel of a dilated convolution: the strided
      # convolution's kernel, turned by 180 degrees.
      y = transposed(x, kernel[::-1, ::-1].swapaxes(2, 3))
    return _with_bias(self, y)


def _with_bias(layer: Conv | TransposedConv, y: jax.Array) -> jax.Array:
  """Adds the parameter `bias` to y [B, H, W, O] if the layer has one."""
  if not layer.use_bias:
    return y
  bias = layer.param(
    'bias', nn.initializers.zeros_init(), y.shape[-1:], layer.param_dtype
  )
  return y + bias.astype(y.dtype)[None, None, None]


def _check_stride(stride: int) -> None:
  if stride not in (1, 2):
    raise ValueError(f'stride={stride}: must be 1 or 2')


def kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  """Converts the weight of a `torch.nn.Conv2d` to the `kernel` of `Conv`.

  Args:
    weight: [O, I, k, k].

  Returns:
    [k, k, I, O]. Padding agrees if PyTorch pads k // 2 - 1 pixels (k even,
    stride 2) or k // 2 pixels (k odd, stride 1).
  """
  return weight.transpose(2, 3, 1, 0)


def transposed_kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  """Converts a `torch.nn.ConvTranspose2d`'s weight for `TransposedConv`.

  Args:
    weight: [I, O, k, k].

  Returns:
    [k, k, I, O], turned by 180 degrees. Padding agrees as in
    `kernel_from_torch`.
  """
  return weight.transpose(2, 3, 0, 1)[::-1, ::-1]
