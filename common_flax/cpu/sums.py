"""Sums over the values of an image.

XLA fuses the terms of a sum into the sum, and computes both on one thread of a
CPU. A matrix product with ones has its terms written out by all threads first.

Dimensions: H height, W width, C channels, N = H W C values.
"""

import math

import jax
import jax.numpy as jnp

from common_flax.cpu.dispatch import on_cpu

_AXES = (-3, -2, -1)


def _flat(x: jax.Array) -> jax.Array:
  """[..., H, W, C] -> [..., N]."""
  return x.reshape(*x.shape[:-3], -1)


def _product_with_ones(x: jax.Array) -> jax.Array:
  """[..., N] -> [...]."""
  return jnp.matmul(
    x, jnp.ones(x.shape[-1], x.dtype), precision=jax.lax.Precision.HIGHEST
  )


def _sum(terms: jax.Array) -> jax.Array:
  return on_cpu(
    lambda terms: _product_with_ones(_flat(terms)),
    lambda terms: jnp.sum(terms, axis=_AXES),
    terms,
  )


@jax.custom_jvp
def sum_values(terms: jax.Array) -> jax.Array:
  """Sums over the values of each image, [..., H, W, C] -> [...]."""
  return _sum(terms)


@sum_values.defjvp
def _sum_values_jvp(primals, tangents):
  (terms,), (tangent,) = primals, tangents
  return sum_values(terms), _sum(tangent)


def _four_at_a_time(x: jax.Array) -> jax.Array:
  """Sums softplus with one logarithm for up to four values.

  log(1 + e^x) = max(x, 0) + log(1 + e^-|x|). The product of four factors
  1 + e^-|x|, each at most 2, has one logarithm. 1 is subtracted from it to keep
  small e^-|x|.
  """
  x = _flat(x)
  above = product_less_one = 0.0
  for part in jnp.split(x, math.gcd(x.shape[-1], 4), axis=-1):
    above += jnp.maximum(part, 0)
    small = jnp.exp(-jnp.abs(part))
    product_less_one += small + product_less_one * small
  return _product_with_ones(above + jnp.log1p(product_less_one))


@jax.custom_jvp
def sum_softplus(x: jax.Array) -> jax.Array:
  """Sums log(1 + e^x) over the values of each image, [..., H, W, C] -> [...].

  Finite for every finite x, with the gradient sigmoid(x) everywhere.
  """
  return on_cpu(
    _four_at_a_time, lambda x: jnp.sum(jax.nn.softplus(x), axis=_AXES), x
  )


@sum_softplus.defjvp
def _sum_softplus_jvp(primals, tangents):
  # Differentiating max(x, 0) and |x| would go wrong at 0.
  (x,), (tangent,) = primals, tangents
  return sum_softplus(x), _sum(tangent * jax.nn.sigmoid(x))
