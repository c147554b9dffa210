"""Hamiltonian Monte Carlo for many chains at once.

A chain moves along a path of the Hamiltonian, whose potential is the negative
log-density and whose mass is one, and the end of the path is accepted or
rejected (Duane et al. 1987; R. Neal 2011, "MCMC using Hamiltonian dynamics").

Dimensions: N examples, C chains of each, Z latent size.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

NUM_LEAPFROG_STEPS = 10
ACCEPTANCE = 0.65  # of proposals, the target (Neal 2011, section 4.4)
_GAIN = 0.2  # of the logarithm of a step size, for a unit of acceptance

# z [N, C, Z] -> the log-density [N, C], up to a constant, its gradient
# [N, C, Z], and whatever else is worth keeping of them.
Density = Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]


class Position(NamedTuple):
  """Where chains are, with what `Density` says of it."""

  z: jax.Array  # [N, C, Z]
  log_density: jax.Array  # [N, C]
  gradient: jax.Array  # [N, C, Z]
  kept: jax.typing.ArrayLike  # a pytree with leaves [N, C, ...]


def position(density: Density, z: jax.Array) -> Position:
  """The position z, with its density."""
  return Position(z, *density(z))


def leapfrog(
  density: Density,
  start: Position,
  momentum: jax.Array,
  step_size: jax.Array,
  num_steps: int = NUM_LEAPFROG_STEPS,
) -> tuple[Position, jax.Array]:
  """Follows the Hamiltonian with the leapfrog integrator.

  From the end, with the momentum reversed, it returns to the start.

  Args:
    density: of z.
    start: where the chains are.
    momentum: [N, C, Z].
    step_size: [N, 1, 1] or [].
    num_steps: number of steps.

  Returns:
    The end, and the momentum there [N, C, Z].
  """

  def step(
    unused_index: int, carry: tuple[Position, jax.Array]
  ) -> tuple[Position, jax.Array]:
    here, momentum = carry
    momentum = momentum + 0.5 * step_size * here.gradient
    there = position(density, here.z + step_size * momentum)
    return there, momentum + 0.5 * step_size * there.gradient

  return lax.fori_loop(0, num_steps, step, (start, momentum))


def transition(
  density: Density,
  start: Position,
  keys: jax.Array,
  step_size: jax.Array,
) -> tuple[Position, jax.Array]:
  """Moves each chain once; leaves the density invariant.

  Args:
    density: of z.
    start: where the chains are.
    keys: [N], each consumed; the draws of an example depend on its key alone.
    step_size: [N].

  Returns:
    Where the chains are now, and the probability [N, C] with which each end of
    a path was accepted.
  """
  num_chains = start.z.shape[1]

  def draw(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    momentum_key, accept_key = jax.random.split(key)
    dtype = start.z.dtype
    return (
      jax.random.normal(momentum_key, start.z.shape[1:], dtype),
      jax.random.uniform(accept_key, (num_chains,), dtype),
    )

  momentum, uniform = jax.vmap(draw)(keys)
  end, end_momentum = leapfrog(
    density, start, momentum, step_size[:, None, None]
  )
  kinetic = 0.5 * jnp.sum(end_momentum**2 - momentum**2, axis=-1)
  log_ratio = end.log_density - start.log_density - kinetic
  # A path that left the range of floats is rejected.
  log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
  is_accepted = jnp.log(uniform) < log_ratio

  def choose(new: jax.Array, old: jax.Array) -> jax.Array:
    shape = is_accepted.shape + (1,) * (new.ndim - 2)
    return jnp.where(is_accepted.reshape(shape), new, old)

  acceptance = jnp.exp(jnp.minimum(log_ratio, 0.0))
  return jax.tree.map(choose, end, start), acceptance


def adapted(step_size: jax.Array, acceptance: jax.Array) -> jax.Array:
  """Step sizes [N] a little nearer to those accepted as often as they should.

  Args:
    step_size: [N].
    acceptance: [N, C], from `transition`.
  """
  excess = jnp.mean(acceptance, axis=1) - ACCEPTANCE
  return step_size * jnp.exp(_GAIN * excess)
