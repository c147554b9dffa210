"""Finite scalar quantisation (Mentzer et al. 2023, arXiv:2309.15505).

Every feature of a cell is bounded and rounded to one of a few levels; the code
of a cell is the number of their combination. There is no codebook to learn, and
nothing that can die.

Dimensions: D features.
"""

import dataclasses
import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from vq_flax.quantisers.quantised import Quantised

_MARGIN = 1e-3  # beyond the outer levels, which otherwise are never reached


@dataclasses.dataclass(frozen=True)
class ScalarQuantiser:
  """Rounds feature i to `levels[i]` levels, from -1 to 1.

  Attributes:
    levels: [D], at least 2 each.
  """

  levels: tuple[int, ...]

  @property
  def num_codes(self) -> int:
    """The number of combinations of levels."""
    return math.prod(self.levels)

  @property
  def num_features(self) -> int:
    """D."""
    return len(self.levels)

  @property
  def codes_per_cell(self) -> int:
    """1, because the features of a cell have one code together."""
    return 1

  @functools.cached_property
  def _halves(self) -> np.ndarray:
    return np.array(self.levels) // 2

  @functools.cached_property
  def _weights(self) -> np.ndarray:
    """What a level of each feature adds to a code."""
    return np.cumprod([1, *self.levels[:-1]])

  def bound(self, x: jax.Array) -> jax.Array:
    """Squeezes x [..., D] so that rounding leaves `levels[i]` integers.

    An even number of levels has one more below 0 than above.
    """
    levels = np.array(self.levels)
    reach = (levels - 1) * (1 + _MARGIN) / 2
    offset = np.where(levels % 2 == 0, 0.5, 0.0)
    shift = np.arctanh(offset / reach)
    reach, offset, shift = (
      jnp.broadcast_to(jnp.asarray(each, x.dtype), x.shape)
      for each in (reach, offset, shift)
    )
    return jnp.tanh(x + shift) * reach - offset

  def quantise(self, codebooks: None, x: jax.Array) -> Quantised:
    """Quantises x [..., D].

    `inputs` and `entries` are both the bounded values in [-1, 1]: rounding is
    no distance that a loss should shorten.
    """
    del codebooks
    halves = jnp.broadcast_to(jnp.asarray(self._halves, x.dtype), x.shape)
    bounded = self.bound(x)
    digits = lax.stop_gradient(jnp.round(bounded) + halves).astype(jnp.int32)
    weights = jnp.broadcast_to(jnp.asarray(self._weights, jnp.int32), x.shape)
    codes = jnp.sum(digits * weights, axis=-1, keepdims=True)
    inputs = (bounded / halves)[..., None, :]
    return Quantised(codes, self._values(codes, x.dtype), inputs, inputs)

  def vectors(self, codebooks: None, codes: jax.Array) -> jax.Array:
    """What codes [..., 1] stand for, float32 [..., D] from -1 to 1."""
    del codebooks
    return self._values(codes, jnp.float32)

  def _values(self, codes: jax.Array, dtype: jnp.dtype) -> jax.Array:
    shape = *codes.shape[:-1], self.num_features
    weights, levels, halves = (
      jnp.broadcast_to(jnp.asarray(each, jnp.int32), shape)
      for each in (self._weights, self.levels, self._halves)
    )
    digits = jnp.broadcast_to(codes, shape) // weights % levels
    return (digits - halves).astype(dtype) / halves.astype(dtype)
