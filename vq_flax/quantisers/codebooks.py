"""How codebooks start, follow the encoder and get rid of dead entries.

Entries can be moving averages of the vectors that chose them (van den Oord et
al. 2017, appendix A.1). They start at the centres of clusters of the first
batch, and an entry that hardly any vector chooses is replaced by a vector of
the current batch: without either, most entries of a large codebook are never
used.

All functions see one codebook and the vectors of the whole batch; `jax.vmap`
makes them see several.

Dimensions: N vectors, K entries, D features.
"""

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp

from vq_flax.quantisers.vectors import nearest

_NUM_ROUNDS = 10  # of k-means
_TINY = 1e-12  # an average below it says nothing


class Usage(struct.PyTreeNode):
  """Moving averages over batches.

  Attributes:
    counts: [K], vectors that chose an entry. All are 0 before the first batch.
    sums: [K, D], the sum of these vectors.
  """

  counts: jax.Array
  sums: jax.Array


def statistics(codes: jax.Array, inputs: jax.Array, num_codes: int) -> Usage:
  """Counts and sums of one batch.

  Args:
    codes: int32 [N].
    inputs: [N, D], the vectors.
    num_codes: K.
  """
  # A product is faster than a scatter on every kind of device.
  chosen = jax.nn.one_hot(codes, num_codes, dtype=inputs.dtype)
  sums = jnp.matmul(chosen.T, inputs, precision=lax.Precision.HIGHEST)
  return Usage(jnp.sum(chosen, axis=0), sums)


def follow(usage: Usage, batch: Usage, decay: float) -> Usage:
  """The moving averages after one more batch."""
  return jax.tree.map(
    lambda average, new: decay * average + (1 - decay) * new, usage, batch
  )


def means(usage: Usage, entries: jax.Array) -> jax.Array:
  """The mean vector of each entry [K, D], or the entry if it has none."""
  is_known = (usage.counts > _TINY)[:, None]
  counts = jnp.maximum(usage.counts, _TINY)[:, None]
  return jnp.where(is_known, usage.sums / counts, entries)


def restart(
  key: jax.Array,
  entries: jax.Array,
  usage: Usage,
  inputs: jax.Array,
  threshold: float,
) -> tuple[jax.Array, Usage, jax.Array]:
  """Replaces entries that fewer than `threshold` vectors of a batch choose.

  Args:
    key: consumed.
    entries: [K, D].
    usage: its averages. A new entry starts with the mean count.
    inputs: [N, D] vectors to choose from, those of the whole batch.
    threshold: vectors a batch.

  Returns:
    The entries, their averages, and which of the entries are new, bool [K].
  """
  is_dead = usage.counts < threshold
  chosen = jax.random.randint(key, is_dead.shape, 0, len(inputs))
  entries = jnp.where(is_dead[:, None], inputs[chosen], entries)
  count = jnp.maximum(jnp.mean(usage.counts), threshold)
  counts = jnp.where(is_dead, count, usage.counts)
  sums = jnp.where(is_dead[:, None], counts[:, None] * entries, usage.sums)
  return entries, Usage(counts, sums), is_dead


def k_means(key: jax.Array, inputs: jax.Array, num_codes: int) -> jax.Array:
  """The centres [K, D] of clusters of vectors [N, D], by Lloyd's rounds.

  Args:
    key: chooses the vectors that the centres start at; consumed.
    inputs: the vectors.
    num_codes: K.
  """
  is_scarce = len(inputs) < num_codes
  chosen = jax.random.choice(key, len(inputs), (num_codes,), replace=is_scarce)

  def improve(centres: jax.Array, _: None) -> tuple[jax.Array, None]:
    codes = nearest(centres, inputs)
    return means(statistics(codes, inputs, num_codes), centres), None

  return lax.scan(improve, inputs[chosen], length=_NUM_ROUNDS)[0]
