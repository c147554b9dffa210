"""How fast training is, in units that tell one machine from another.

The rate of a model's own arithmetic is compared with the rate at which the same
device multiplies large matrices: the share says how much a faster program could
still win.
"""

from collections.abc import Callable
import dataclasses
import functools
import time

import jax
import jax.numpy as jnp

_TRIALS = 2  # the first of which is one as good as any


def product_size() -> int:
  """The side of matrices that are large to this platform."""
  return 2048 if jax.default_backend() == 'cpu' else 8192


def large_product(dtype: jnp.dtype) -> Callable[[], jax.Array]:
  """A product of large square matrices on one device, compiled.

  Args:
    dtype: of the factors; sums are at least float32.
  """
  shape = (product_size(), product_size())
  accumulator = jnp.promote_types(dtype, jnp.float32)
  x = jax.block_until_ready(jnp.ones(shape, dtype))
  product = jax.jit(
    lambda x: jnp.matmul(x, x, preferred_element_type=accumulator)
  )
  return functools.partial(product.lower(x).compile(), x)


@functools.cache  # of a machine, which does not change
def matmul_flops_per_second(dtype: jnp.dtype) -> float:
  """Floating-point operations a second of a large product on one device."""
  product = large_product(dtype)
  seconds = []
  for _ in range(_TRIALS):
    start = time.perf_counter()
    jax.block_until_ready(product())
    seconds.append(time.perf_counter() - start)
  return 2 * product_size() ** 3 / min(seconds)


def count_flops(traced: jax.stages.Traced) -> float:
  """Floating-point operations of a traced function, two a multiply-add.

  They are those of the textbook's form, direct convolutions for instance,
  whatever form runs on this platform: XLA counts them for another one, where
  layers take the library's operations.
  """
  lowered = traced.lower(lowering_platforms=('tpu',))
  return float(lowered.cost_analysis()['flops'])


@dataclasses.dataclass(frozen=True)
class Speed:
  """What rates are made of."""

  images_per_step: int  # real images, over all devices
  flops_per_step: float  # over all devices
  matmul_flops_per_second: float  # of all devices together

  def rates(self, seconds_per_step: float) -> dict[str, float]:
    """The metrics of a step that takes so long."""
    flops_per_second = self.flops_per_step / seconds_per_step
    return {
      'images_per_second': self.images_per_step / seconds_per_step,
      'step_milliseconds': 1000 * seconds_per_step,
      'model_gflops_per_second': flops_per_second / 1e9,
      'matmul_rate_share': flops_per_second / self.matmul_flops_per_second,
    }
