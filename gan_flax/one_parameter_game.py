"""A GAN whose generator has one parameter, small enough to follow (UDL 15.1).

The generator shifts its latent by θ: x* = z + θ. The discriminator is a
logistic regression, sig[φ0 + φ1 x]. The players take turns, and each turn is a
few steps of gradient descent (Understanding Deep Learning, UDL, figure 15.1).

Dimensions: N examples.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from gan_flax.losses import discriminator_loss
from gan_flax.losses import minimax_generator_loss


class Players(NamedTuple):
  """The parameters of both players."""

  theta: jax.Array  # []
  phi: jax.Array  # [2], offset and slope


class Pace(NamedTuple):
  """Gradient descent within one turn."""

  num_steps: int
  learning_rate: float


# The settings of UDL's notebook 15.1.
DISCRIMINATOR_PACE = Pace(300, 0.01)
GENERATOR_PACE = Pace(3, 0.02)


def generate(theta: jax.Array, z: jax.Array) -> jax.Array:
  """Maps latents [N] to samples [N]."""
  return z + theta


def logits(phi: jax.Array, x: jax.Array) -> jax.Array:
  """Maps examples [N] to logits [N] of the probability that each is real."""
  return phi[0] + phi[1] * x


def total_discriminator_loss(
  phi: jax.Array, theta: jax.Array, real: jax.Array, z: jax.Array
) -> jax.Array:
  """Binary cross-entropy summed over real and generated examples, [N] each.

  Returns:
    [] in nats.
  """
  fake = generate(theta, z)
  return jnp.sum(discriminator_loss(logits(phi, real), logits(phi, fake)))


def total_generator_loss(
  theta: jax.Array, phi: jax.Array, z: jax.Array
) -> jax.Array:
  """Minimax loss summed over the samples of the latents z [N].

  Returns:
    [] in nats; the generator minimises it.
  """
  return jnp.sum(minimax_generator_loss(logits(phi, generate(theta, z))))


def _descend(
  loss: Callable[[jax.Array], jax.Array], params: jax.Array, pace: Pace
) -> jax.Array:
  def step(unused_i, params):
    return params - pace.learning_rate * jax.grad(loss)(params)

  return lax.fori_loop(0, pace.num_steps, step, params)


def discriminator_turn(
  players: Players, real: jax.Array, z: jax.Array, pace: Pace
) -> Players:
  """Returns the players after the discriminator's turn."""
  loss = functools.partial(
    total_discriminator_loss, theta=players.theta, real=real, z=z
  )
  return players._replace(phi=_descend(loss, players.phi, pace))


def generator_turn(players: Players, z: jax.Array, pace: Pace) -> Players:
  """Returns the players after the generator's turn."""
  loss = functools.partial(total_generator_loss, phi=players.phi, z=z)
  return players._replace(theta=_descend(loss, players.theta, pace))


@functools.partial(jax.jit, static_argnames=('num_rounds', 'd_pace', 'g_pace'))
def play(
  players: Players,
  real: jax.Array,
  z: jax.Array,
  num_rounds: int,
  d_pace: Pace = DISCRIMINATOR_PACE,
  g_pace: Pace = GENERATOR_PACE,
) -> Players:
  """Plays rounds of two turns: the discriminator's, then the generator's.

  Args:
    players: initial parameters.
    real: [N] real examples.
    z: [N] latents, the same in every round.
    num_rounds: R.
    d_pace: of the discriminator's turns.
    g_pace: of the generator's turns.

  Returns:
    The players at the start and after each turn, with a leading axis of size
    2R + 1.
  """

  def play_round(players, unused_round):
    taught = discriminator_turn(players, real, z, d_pace)
    moved = generator_turn(taught, z, g_pace)
    return moved, jax.tree.map(lambda *x: jnp.stack(x), taught, moved)

  _, turns = lax.scan(play_round, players, length=num_rounds)
  return jax.tree.map(
    lambda first, later: jnp.concatenate(
      [first[None], later.reshape(-1, *first.shape)]
    ),
    players,
    turns,
  )
