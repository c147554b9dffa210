"""A causal transformer over the codes of an image.

The codes of an image are read row by row, the L codes of a cell one after the
other. Each is predicted from those before it (Vaswani et al. 2017,
arXiv:1706.03762), with the layer norms in front of the layers.

Drawing adds one code at a time. A cache of keys and values of the codes before
it saves computing them again.

Dimensions: B batch, N codes of an image, T codes so far or all of them, L codes
of a cell, K codes there are, W width, A attention heads.
"""

import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

Cache = tuple[tuple[jax.Array, jax.Array], ...]  # keys, values of each block

_INIT = nn.initializers.normal(0.02)
_LEAST = -1e30  # a logit of what must not be seen


class Block(nn.Module):
  """Attention to the codes so far, then a dense layer of 4W features.

  Attributes:
    num_heads: A, which divides W.
    dtype: type of the computation.
    param_dtype: type of the parameters.
  """

  num_heads: int
  dtype: jnp.dtype
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    cache: tuple[jax.Array, jax.Array],
    place: jax.Array | int,
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Applies the block to x [B, T, W].

    Args:
      x: of the codes at the places `place` to `place` + T - 1.
      cache: keys and values [B, N, A, W / A] of the codes before them.
      place: of the first.

    Returns:
      [B, T, W], and the cache with keys and values of x.
    """
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    width = x.shape[-1]
    norm = nn.LayerNorm(name='norm_attention', **types)(x)
    heads = nn.DenseGeneral(
      (3, self.num_heads, width // self.num_heads), name='heads', **types
    )(norm)
    queries, *new = jnp.unstack(heads, axis=2)
    cache = tuple(
      jax.lax.dynamic_update_slice_in_dim(old, each, place, axis=1)
      for old, each in zip(cache, new, strict=True)
    )
    keys, values = cache
    scores = jnp.einsum('btah,bnah->batn', queries, keys)
    scores = scores.astype(self.param_dtype) / math.sqrt(keys.shape[-1])
    here = place + jnp.arange(x.shape[1])
    is_seen = here[:, None] >= jnp.arange(keys.shape[1])[None]
    scores = jnp.where(is_seen[None, None], scores, _LEAST)
    weights = nn.softmax(scores).astype(self.dtype)
    found = jnp.einsum('batn,bnah->btah', weights, values)
    x = x + nn.DenseGeneral(width, axis=(-2, -1), name='attention', **types)(
      found
    )
    y = nn.LayerNorm(name='norm_dense', **types)(x)
    y = nn.gelu(nn.Dense(4 * width, name='expand', **types)(y))
    return x + nn.Dense(width, name='reduce', **types)(y), cache


class Transformer(nn.Module):
  """Logits of each code of an image, given those before it.

  Attributes:
    num_cells: N / L.
    codes_per_cell: L.
    num_codes: K.
    num_classes: of images; None if the prior is not told the class.
    width: W.
    num_layers: number of blocks.
    num_heads: A.
    dtype: type of the computation.
    param_dtype: type of the parameters and the result.
  """

  num_cells: int
  codes_per_cell: int
  num_codes: int
  num_classes: int | None
  width: int
  num_layers: int
  num_heads: int
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32

  @property
  def length(self) -> int:
    """N."""
    return self.num_cells * self.codes_per_cell

  def setup(self) -> None:
    types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
    levels = self.codes_per_cell
    self.starts = nn.Embed(
      self.num_classes or 1, self.width, embedding_init=_INIT, **types
    )
    self.codes = nn.Embed(
      levels * self.num_codes, self.width, embedding_init=_INIT, **types
    )
    self.places = self.param(
      'places', _INIT, (self.length, self.width), self.param_dtype
    )
    self.blocks = [
      Block(self.num_heads, **types) for _ in range(self.num_layers)
    ]
    self.norm = nn.LayerNorm(**types)
    self.logits = [nn.Dense(self.num_codes, **types) for _ in range(levels)]

  def __call__(
    self, codes: jax.Array, labels: jax.Array | None = None
  ) -> jax.Array:
    """Logits [B, N, K] of all codes of images.

    Args:
      codes: int32 [B, N].
      labels: int32 [B]; None if the prior is not told the class.
    """
    numbers = codes[:, :-1] + self._level_offsets()[None, : self.length - 1]
    x = jnp.concatenate(
      [self._start(labels, len(codes)), self.codes(numbers)], axis=1
    )
    x, _ = self._through_blocks(x, self.empty_cache(len(codes)), 0)
    step = self.codes_per_cell
    logits = jnp.stack(
      [head(x[:, level::step]) for level, head in enumerate(self.logits)],
      axis=2,
    )
    shape = codes.shape[0], self.length, self.num_codes
    return logits.reshape(shape).astype(self.param_dtype)

  def first(
    self, labels: jax.Array | None, num: int
  ) -> tuple[jax.Array, Cache]:
    """Logits [B, K] of the first code of `num` images, and the cache."""
    x = self._start(labels, num)
    x, cache = self._through_blocks(x, self.empty_cache(num), 0)
    return self.logits[0](x)[:, 0].astype(self.param_dtype), cache

  def next(
    self, code: jax.Array, place: jax.Array, cache: Cache
  ) -> tuple[jax.Array, Cache]:
    """Logits [B, K] of the code at `place` + 1.

    Args:
      code: int32 [B], that at `place`.
      place: int32 [].
      cache: of the codes before it.
    """
    numbers = code + self._level_offsets()[place]
    x = self.codes(numbers)[:, None]
    x, cache = self._through_blocks(x, cache, place + 1)
    heads = jnp.stack([head(x)[:, 0] for head in self.logits])  # [L, B, K]
    level = (place + 1) % self.codes_per_cell
    return heads[level].astype(self.param_dtype), cache

  def empty_cache(self, num: int) -> Cache:
    """The cache of `num` images before their first code."""
    shape = num, self.length, self.num_heads, self.width // self.num_heads
    zeros = jnp.zeros(shape, self.dtype)
    return tuple((zeros, zeros) for _ in range(self.num_layers))

  def _level_offsets(self) -> jax.Array:
    """What the embedding adds to a code at each place, int32 [N]."""
    levels = jnp.arange(self.length, dtype=jnp.int32) % self.codes_per_cell
    return levels * self.num_codes

  def _start(self, labels: jax.Array | None, num: int) -> jax.Array:
    """What the first code is predicted from, [B, 1, W]."""
    if labels is None:
      labels = jnp.zeros(num, jnp.int32)
    return self.starts(labels)[:, None]

  def _through_blocks(
    self, x: jax.Array, cache: Cache, place: Any
  ) -> tuple[jax.Array, Cache]:
    places = jax.lax.dynamic_slice_in_dim(self.places, place, x.shape[1])
    x = x + places[None].astype(x.dtype)
    after = []
    for block, old in zip(self.blocks, cache, strict=True):
      x, new = block(x, old, place)
      after.append(new)
    return self.norm(x), tuple(after)
