"""Convolutions as Flax modules, on the forms of `common_flax.nn.conv`.

Padding is 'SAME', as in `flax.linen.Conv` and `flax.linen.ConvTranspose`, whose
parameters and results these modules share; weights of PyTorch's convert.

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
  """Convolution, height and width divided by stride.

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
  """Transposed convolution, height and width times stride.

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
      # nn.ConvTranspose stores the kernel of the dilated convolution it
      # computes, the strided convolution's turned by 180 degrees.
      y = transposed(x, kernel[::-1, ::-1].swapaxes(2, 3))
    return _with_bias(self, y)


def _with_bias(layer: Conv | TransposedConv, y: jax.Array) -> jax.Array:
  """Adds the parameter `bias` to [B, H, W, O], if the layer has one."""
  if not layer.use_bias:
    return y
  bias = layer.param(
    'bias', nn.initializers.zeros_init(), y.shape[-1:], layer.param_dtype
  )
  return y + bias.astype(y.dtype)[None, None, None]


def _check_stride(stride: int) -> None:
  if stride not in (1, 2):
    raise ValueError(f'stride={stride}: is 1 or 2')


def kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  """The `kernel` of `Conv` for the weight of a `torch.nn.Conv2d`.

  Args:
    weight: [O, I, k, k].

  Returns:
    [k, k, I, O]. Padding agrees where PyTorch pads k // 2 - 1 pixels (k even,
    stride 2) or k // 2 (k odd, stride 1).
  """
  return weight.transpose(2, 3, 1, 0)


def transposed_kernel_from_torch(weight: np.ndarray) -> np.ndarray:
  """The `kernel` of `TransposedConv` for a `torch.nn.ConvTranspose2d`'s weight.

  Args:
    weight: [I, O, k, k].

  Returns:
    [k, k, I, O], turned by 180 degrees; padding as for `kernel_from_torch`.
  """
  return weight.transpose(2, 3, 0, 1)[::-1, ::-1]
