"""Gradients of a loss with respect to vectors before they were quantised.

Quantising is flat almost everywhere, so its own derivative is 0. Both functions
return the quantised vectors and replace that derivative.

Dimensions: D features.
"""

import jax
from jax import lax
import jax.numpy as jnp

_TINY = 1e-6  # below it, a vector has no direction


def straight_through(x: jax.Array, quantised: jax.Array) -> jax.Array:
  """Passes the gradient on as it is (van den Oord et al. 2017, section 3.2).

  Args:
    x: [..., D].
    quantised: of the same shape.
  """
  return x + lax.stop_gradient(quantised - x)


def rotated(x: jax.Array, quantised: jax.Array) -> jax.Array:
  """Turns and scales the gradient as x is turned and scaled to `quantised`.

  The rotation and the ratio of the norms count as constants, so the angle
  between the gradient and the vector is kept (Fifty et al. 2024,
  arXiv:2410.06424, section 4). Where one of the vectors is 0, the gradient
  passes as it is.

  Args:
    x: [..., D].
    quantised: of the same shape.
  """
  fixed = lax.stop_gradient(x)
  quantised = lax.stop_gradient(quantised)
  norms = [_norm(fixed), _norm(quantised)]
  start, end = fixed / norms[0], quantised / norms[1]
  middle = (start + end) / _norm(start + end)
  turned = (x - 2 * _along(x, middle) * middle + 2 * _along(x, start) * end) * (
    norms[1] / norms[0]
  )
  # Vectors that point in opposite directions span no plane to turn in.
  is_turned = (
    (norms[0] > _TINY) & (norms[1] > _TINY) & (_along(start, end) > _TINY - 1)
  )
  safe = jnp.where(is_turned, turned, x)
  return safe + lax.stop_gradient(quantised - safe)


GRADIENTS = {'straight_through': straight_through, 'rotation': rotated}


def _along(x: jax.Array, direction: jax.Array) -> jax.Array:
  """The inner products [..., 1]."""
  return jnp.sum(x * direction, axis=-1, keepdims=True)


def _norm(x: jax.Array) -> jax.Array:
  """The norms [..., 1], at least _TINY."""
  return jnp.maximum(jnp.sqrt(_along(x, x)), _TINY)
