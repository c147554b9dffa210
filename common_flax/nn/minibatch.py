"""What a discriminator may know of the other examples of its batch.

Dimensions: B batch, C features.
"""

import math

import jax
import jax.numpy as jnp

GROUP_SIZE = 4  # examples that are compared; the paper's
_EPSILON = 1e-8


def with_minibatch_deviation(x: jax.Array) -> jax.Array:
  """Adds a feature that says how much neighbouring examples differ.

  The standard deviation of every feature over groups of 4 examples, averaged
  over features and places (Karras et al. 2018, arXiv:1710.10196, section 3;
  UDL 15.3): a generator that repeats itself gives itself away by it.

  Args:
    x: [B, ..., C], B a multiple of 4; of a smaller or another B the groups are
      the largest that divide both.

  Returns:
    [B, ..., C + 1], the last feature the same all over a group.
  """
  size = math.gcd(GROUP_SIZE, len(x))
  groups = x.reshape(-1, size, *x.shape[1:])
  # The root has no finite gradient at 0.
  deviations = jnp.sqrt(jnp.var(groups, axis=1) + _EPSILON)
  means = jnp.mean(deviations, axis=range(1, deviations.ndim))  # [B / 4]
  means = jnp.repeat(means, size)
  feature = jnp.broadcast_to(
    means.reshape(-1, *[1] * (x.ndim - 1)), (*x.shape[:-1], 1)
  )
  return jnp.concatenate([x, feature.astype(x.dtype)], axis=-1)
