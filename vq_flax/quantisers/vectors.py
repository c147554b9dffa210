"""Vector quantisation: the nearest entries of codebooks.

A cell of the encoder's output is replaced by the nearest entry of a codebook
(van den Oord et al. 2017, arXiv:1711.00937). Of several codebooks, each
quantises what the earlier ones left (Zeghidour et al. 2021, arXiv:2107.03312,
section III-C).

Dimensions: L codebooks, K entries of each, D features, N cells.
"""

import dataclasses

import jax
from jax import lax
import jax.numpy as jnp

from vq_flax.quantisers.quantised import Quantised


@dataclasses.dataclass(frozen=True)
class VectorQuantiser:
  """Quantises by L codebooks.

  Attributes:
    num_codes: K.
    num_features: D.
    num_codebooks: L, codes of a cell.
  """

  num_codes: int
  num_features: int
  num_codebooks: int

  @property
  def codes_per_cell(self) -> int:
    """L."""
    return self.num_codebooks

  def init(self, key: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Random entries [L, K, D] near the origin; consumes the key."""
    shape = self.num_codebooks, self.num_codes, self.num_features
    reach = 1 / self.num_codes
    return jax.random.uniform(key, shape, dtype, -reach, reach)

  def quantise(self, codebooks: jax.Array, x: jax.Array) -> Quantised:
    """Quantises x [..., D] by codebooks [L, K, D].

    Gradients reach the codebooks through `entries`, and x through `inputs`.
    """
    codes, inputs, entries = [], [], []
    for codebook in codebooks:
      code = nearest(codebook, x)
      entry = codebook[code]
      codes.append(code)
      inputs.append(x)
      entries.append(entry)
      x = x - lax.stop_gradient(entry)
    entries = jnp.stack(entries, axis=-2)
    return Quantised(
      jnp.stack(codes, axis=-1),
      lax.stop_gradient(jnp.sum(entries, axis=-2)),
      jnp.stack(inputs, axis=-2),
      entries,
    )

  def vectors(self, codebooks: jax.Array, codes: jax.Array) -> jax.Array:
    """What codes [..., L] stand for, [..., D]."""
    entries = [
      codebook[codes[..., level]] for level, codebook in enumerate(codebooks)
    ]
    return jnp.sum(jnp.stack(entries, axis=-2), axis=-2)


def nearest(codebook: jax.Array, x: jax.Array) -> jax.Array:
  """The nearest entries of a codebook [K, D] to x [..., D], int32 [...].

  Of equally near entries the first is chosen.
  """
  flat = lax.stop_gradient(x).reshape(-1, x.shape[-1])
  codebook = lax.stop_gradient(codebook)
  products = jnp.matmul(flat, codebook.T, precision=lax.Precision.HIGHEST)
  # |x - e|² without |x|², which is the same for all entries.
  distances = jnp.sum(codebook**2, axis=1)[None] - 2 * products
  codes = jnp.argmin(distances, axis=1).astype(jnp.int32)
  return codes.reshape(x.shape[:-1])
