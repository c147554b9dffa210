"""Draws codes from a prior, one after the other.

Dimensions: N images, S and T sides of the grid of cells, L codes of a cell, M
codes of an image, K codes there are.
"""

import functools

import jax
import jax.numpy as jnp

from common_flax import prng
from vq_flax.prior.prior import Prior
from vq_flax.state import Params


def allowed(logits: jax.Array, top_p: float) -> jax.Array:
  """Rules out the least likely codes (Holtzman et al. 2019, section 3.1).

  Args:
    logits: [..., K].
    top_p: probability that the codes which are kept have at least together.

  Returns:
    The logits, with -inf for codes that are ruled out.
  """
  ordered = jnp.sort(logits, axis=-1, descending=True)
  shares = jax.nn.softmax(ordered, axis=-1)
  before = jnp.cumsum(shares, axis=-1) - shares
  # A code is kept if those that are likelier have less than top_p together.
  num_kept = jnp.sum(before < top_p, axis=-1, keepdims=True)
  last = jnp.maximum(num_kept, 1) - 1  # at least one code
  least = jnp.take_along_axis(ordered, last, axis=-1)
  # The sum of all shares may reach 1 before the last code.
  is_kept = (logits >= least) | (top_p >= 1)
  return jnp.where(is_kept, logits, -jnp.inf)


@functools.partial(jax.jit, static_argnums=0)
def draw(
  prior: Prior,
  params: Params,
  key: jax.Array,
  numbers: jax.Array,
  labels: jax.Array | None,
  temperature: float,
  top_p: float,
  known: jax.Array | None = None,
  is_known: jax.Array | None = None,
) -> jax.Array:
  """Draws codes, each image's a function of the key and its number alone.

  Args:
    prior: the static part.
    params: of the network.
    key: not consumed.
    numbers: int32 [N].
    labels: int32 [N] of a conditional prior, else None.
    temperature: divides the logits; below 1 for likelier images.
    top_p: see `allowed`; 1 for all codes.
    known: int32 [N, S, T, L], codes that are given; None for none.
    is_known: bool [S, T, L], which of these are kept. A drawn code follows
      those before it alone, given or drawn.

  Returns:
    int32 [N, S, T, L].
  """
  network, variables = prior.network, {'params': params['prior']}
  shape = *prior.vq.grid, network.codes_per_cell
  num = numbers.shape[0]
  if known is None:
    known = jnp.zeros((num, *shape), jnp.int32)
    is_known = jnp.zeros(shape, bool)
  known = known.reshape(num, -1).T
  is_known = is_known.ravel()
  keys = prng.by_number(key, numbers)

  def choose(logits: jax.Array, place: jax.Array) -> jax.Array:
    logits = allowed(logits / jnp.maximum(temperature, 1e-6), top_p)
    at_place = jax.vmap(lambda key: jax.random.fold_in(key, place))(keys)
    drawn = jax.vmap(jax.random.categorical)(at_place, logits)
    return jnp.where(is_known[place], known[place], drawn).astype(jnp.int32)

  def extend(carried, place):
    code, cache = carried
    logits, cache = network.apply(
      variables, code, place, cache, method=network.next
    )
    code = choose(logits, place + 1)
    return (code, cache), code

  logits, cache = network.apply(variables, labels, num, method=network.first)
  first = choose(logits, jnp.zeros((), jnp.int32))
  _, others = jax.lax.scan(
    extend, (first, cache), jnp.arange(network.length - 1, dtype=jnp.int32)
  )
  codes = jnp.concatenate([first[None], others])
  return codes.T.reshape(num, *shape)
