"""Training speed, in units that allow machines to be compared.

The model's arithmetic rate is divided by the rate at which the same device
multiplies large matrices. This share shows how much a faster program could
still gain.
"""

from collections.abc import Callable
import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from common_flax.distributed.sharding import Parallel

_TRIALS = 2  # the first warms up the caches


def product_size() -> int:
  """The side of a matrix that is large for this platform."""
  return 2048 if jax.default_backend() == 'cpu' else 8192


def large_product(dtype: jnp.dtype) -> Callable[[], jax.Array]:
  """A compiled product of large square matrices on one device.

  Args:
    dtype: type of the factors; sums are at least float32.
  """
  shape = (product_size(), product_size())
  accumulator = jnp.promote_types(dtype, jnp.float32)
  x = jax.block_until_ready(jnp.ones(shape, dtype))
  product = jax.jit(
    lambda x: jnp.matmul(x, x, preferred_element_type=accumulator)
  )
  return functools.partial(product.lower(x).compile(), x)


@functools.cache  # a machine does not change
def matmul_flops_per_second(dtype: jnp.dtype) -> float:
  """Floating-point operations per second of a large product on one device."""
  product = large_product(dtype)
  seconds = []
  for _ in range(_TRIALS):
    start = time.perf_counter()
    jax.block_until_ready(product())
    seconds.append(time.perf_counter() - start)
  return 2 * product_size() ** 3 / min(seconds)


def count_flops(traced: jax.stages.Traced) -> float:
  """Floating-point operations of a traced function, two per multiply-add.

  The count is that of the textbook form, such as direct convolutions, whichever
  form runs on this platform: the function is lowered for another platform, on
  which layers use the library's operations.
  """
  lowered = traced.lower(lowering_platforms=('tpu',))
  return float(lowered.cost_analysis()['flops'])


@dataclasses.dataclass(frozen=True)
class Speed:
  """The quantities behind the rates, over all devices together."""

  images_per_step: int  # real images
  flops_per_step: float
  matmul_flops_per_second: float

  def rates(self, seconds_per_step: float) -> dict[str, float]:
    """The speed metrics for a given time per step."""
    flops_per_second = self.flops_per_step / seconds_per_step
    return {
      'images_per_second': self.images_per_step / seconds_per_step,
      'step_milliseconds': 1000 * seconds_per_step,
      'model_gflops_per_second': flops_per_second / 1e9,
      'matmul_rate_share': flops_per_second / self.matmul_flops_per_second,
    }


def measure(
  step: jax.stages.Wrapped,
  state: Any,
  batch: Any,
  root: jax.Array,
  parallel: Parallel,
  *,
  images_per_step: int,
  dtype: jnp.dtype,
) -> Speed:
  """Counts a train step's operations and times a large matrix product.

  Args:
    step: a jitted (state, batch, root) -> (state, metrics).
    state: shapes and types of the state.
    batch: shapes and types of the whole batch.
    root: the root key or keys.
    parallel: how the step runs on the devices.
    images_per_step: real images over all devices.
    dtype: type of the computation.
  """
  if parallel.axis.name is None:
    # With the sharding of training, JAX reuses the trace of the step.
    place = NamedSharding(parallel.state_sharding.mesh, PartitionSpec())
    state, batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      (state, batch),
    )
  else:  # a single share, which is the whole batch
    mapped = jax.vmap(
      step, in_axes=(None, 0, None), axis_name=parallel.axis.name
    )
    step = jax.jit(mapped)
    batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), batch
    )
  with jax.disable_jit(False):  # which a user may have set to debug a step
    return Speed(
      images_per_step=images_per_step,
      flops_per_step=count_flops(step.trace(state, batch, root)),
      matmul_flops_per_second=matmul_flops_per_second(dtype)
      * parallel.num_devices,
    )
