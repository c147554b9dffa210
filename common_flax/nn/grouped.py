"""Grouped convolution with stride 1, and its adjoints.

The features are split into groups, and each group of outputs sees one group of
inputs (Xie et al. 2017, arXiv:1611.05431). The convolution C(x, w) is linear in
x and in w, so its gradients are made of the same two operations, forward or
backward, however often it is differentiated:

  d/dx = C(y, w')      w' turned by 180 degrees, each group transposed
  d/dw = K(x, y)       gradient of the kernel

Stating this by hand matters on a CPU, where XLA's kernel gradient of a grouped
convolution takes a hundred times as long as the convolution.

`library_convolution` and `library_kernel_gradient` are the definitions, which
GPUs and TPUs run. A CPU runs equal forms from `common_flax.cpu.grouped`.

Dimensions: B batch, H height, W width, k kernel; I input and O output features,
i and o those of a group.
"""

import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from common_flax.cpu import grouped as cpu_grouped
from common_flax.cpu.dispatch import on_cpu
from common_flax.nn.conv import LAYOUT


def library_convolution(x: jax.Array, w: jax.Array) -> jax.Array:
  """The definition of C(x, w)."""
  return lax.conv_general_dilated(
    x,
    w,
    (1, 1),
    'SAME',
    dimension_numbers=LAYOUT,
    feature_group_count=x.shape[-1] // w.shape[2],
  )


def library_kernel_gradient(
  x: jax.Array, y: jax.Array, shape: tuple[int, int, int, int]
) -> jax.Array:
  """The definition of K(x, y), for a kernel of the given shape."""
  kernel = jax.ShapeDtypeStruct(shape, x.dtype)
  of_kernel = functools.partial(library_convolution, x)
  (gradient,) = jax.linear_transpose(of_kernel, kernel)(y)
  return gradient


@jax.custom_vjp
def convolution(x: jax.Array, w: jax.Array) -> jax.Array:
  """C(x, w): grouped convolution with 'SAME' padding.

  Args:
    x: [B, H, W, I].
    w: [k, k, i, O] kernel, k odd, of I / i groups.

  Returns:
    [B, H, W, O].
  """
  return on_cpu(cpu_grouped.convolution, library_convolution, x, w)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def kernel_gradient(
  x: jax.Array, y: jax.Array, shape: tuple[int, int, int, int]
) -> jax.Array:
  """K(x, y): the adjoint of `convolution` in its kernel.

  Args:
    x: [B, H, W, I].
    y: [B, H, W, O] cotangents.
    shape: (k, k, i, O), that of the kernel.

  Returns:
    [k, k, i, O].
  """
  return on_cpu(
    functools.partial(cpu_grouped.kernel_gradient, shape=shape),
    functools.partial(library_kernel_gradient, shape=shape),
    x,
    y,
  )


def turned(w: jax.Array, num_groups: int) -> jax.Array:
  """The kernel w' of the adjoint in x: [k, k, i, O] -> [k, k, o, I]."""
  height, width, inputs, outputs = w.shape
  w = w.reshape(height, width, inputs, num_groups, outputs // num_groups)
  w = w[::-1, ::-1].transpose(0, 1, 4, 3, 2)
  return w.reshape(height, width, -1, num_groups * inputs)


def _adjoint(y: jax.Array, w: jax.Array, features: int) -> jax.Array:
  """Maps a cotangent y of the result to one of the image of I features."""
  return convolution(y, turned(w, features // w.shape[2]))


def _convolution_pullback(saved, y):
  x, w = saved
  return _adjoint(y, w, x.shape[-1]), kernel_gradient(x, y, w.shape)


def _kernel_gradient_pullback(shape, saved, w):
  del shape
  x, y = saved
  return _adjoint(y, w, x.shape[-1]), convolution(x, w)


convolution.defvjp(
  lambda x, w: (convolution(x, w), (x, w)), _convolution_pullback
)
kernel_gradient.defvjp(
  lambda x, y, shape: (kernel_gradient(x, y, shape), (x, y)),
  _kernel_gradient_pullback,
)


class GroupedConv(nn.Module):
  """Convolution in groups of features, stride 1, 'SAME' padding.

  The parameters and the result are those of `nn.Conv(features, (k, k),
  feature_group_count=G, use_bias=use_bias)` with G groups of `group_size` input
  features.
  """

  features: int
  kernel_size: int  # odd
  group_size: int  # input features in a group
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    num_groups, rest = divmod(x.shape[-1], self.group_size)
    if rest or self.features % num_groups:
      raise ValueError(
        f'group_size={self.group_size}: {x.shape[-1]} input and '
        f'{self.features} output features do not split into such groups'
      )
    shape = (self.kernel_size, self.kernel_size, self.group_size, self.features)
    kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
    y = convolution(x.astype(self.dtype), kernel.astype(self.dtype))
    if not self.use_bias:
      return y
    bias = self.param(
      'bias', nn.initializers.zeros_init(), (self.features,), self.param_dtype
    )
    return y + bias.astype(y.dtype)[None, None, None]
