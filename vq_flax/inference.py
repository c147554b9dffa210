"""From images to codes and back, as pure functions.

Dimensions: B batch, H height, W width, C channels, P outputs per value, S and T
sides of the grid of cells, D features of a cell, L codes of a cell, K codes
there are.
"""

import jax
import jax.numpy as jnp

from vq_flax.quantisers import Quantised
from vq_flax.state import Params
from vq_flax.vq import VQ


def encode(vq: VQ, params: Params, x: jax.Array) -> Quantised:
  """The codes of x [B, H, W, C] from `vq.observe`, and their vectors."""
  cells = vq.encoder.apply({'params': params['encoder']}, x)
  return vq.quantiser.quantise(params.get('codebooks'), cells)


def decode(vq: VQ, params: Params, vectors: jax.Array) -> jax.Array:
  """The likelihood's parameters [B, H, W, C, P] for cells [B, S, T, D]."""
  return vq.decoder.apply({'params': params['decoder']}, vectors)


def counts(codes: jax.Array, num_codes: int) -> jax.Array:
  """How often each code occurs at each of the L places of a cell, [L, K].

  Args:
    codes: int32 [..., L].
    num_codes: K.
  """
  flat = codes.reshape(-1, codes.shape[-1])
  return jax.vmap(
    lambda column: jnp.bincount(column, length=num_codes), in_axes=1
  )(flat)


def perplexity(counts: jax.Array) -> jax.Array:
  """The exponential of the entropy of codes that are counted [..., K].

  It is K if all are equally frequent, and 1 if there is only one.
  """
  shares = counts / jnp.maximum(jnp.sum(counts, axis=-1, keepdims=True), 1)
  return jnp.exp(jnp.sum(jax.scipy.special.entr(shares), axis=-1))
