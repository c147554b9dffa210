"""Losses of the two players, as pure functions of the discriminator's logits.

The discriminator f[x, φ] returns a logit; sig[f] is its probability that x is
real. Both players' losses follow from binary cross entropy (Understanding Deep
Learning, UDL, section 15.1; Goodfellow et al. 2014, arXiv:1406.2661).

Every loss is per example and in nats; the train step takes the mean over the
batch. All are written with softplus, log(1 + e^x), since log(sig[x]) overflows
to infinity at logits that a winning discriminator reaches.

Dimensions: B batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


def binary_cross_entropy(logits: jax.Array, is_real: bool) -> jax.Array:
  """-log of the probability that the discriminator gives the truth (UDL 15.2).

  Args:
    logits: [B] logits of the probability of being real.
    is_real: whether these examples are real.

  Returns:
    [B] losses in nats, finite for every finite logit.
  """
  return jax.nn.softplus(-logits if is_real else logits)


def discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array
) -> jax.Array:
  """Binary cross entropy of real and generated examples, summed (UDL 15.3).

  Args:
    real_logits: [B] logits of real examples.
    fake_logits: [B] logits of generated examples.

  Returns:
    [B] losses in nats; 2 log 2 where the discriminator cannot tell.
  """
  return binary_cross_entropy(real_logits, True) + binary_cross_entropy(
    fake_logits, False
  )


def minimax_generator_loss(fake_logits: jax.Array) -> jax.Array:
  """The generator's part of the minimax game, log(1 - sig[f]) (UDL 15.4-15.5).

  It is what the discriminator loses by generated examples, negated. Its
  gradient vanishes where the discriminator is sure of itself ("saturates").

  Args:
    fake_logits: [B] logits of generated examples.

  Returns:
    [B] losses in nats, never positive.
  """
  return -binary_cross_entropy(fake_logits, False)


def non_saturating_generator_loss(fake_logits: jax.Array) -> jax.Array:
  """-log sig[f], the other form of Goodfellow et al. (2014), section 3.

  The same fixed point as the minimax form, with a gradient that is largest
  where the generator does worst.

  Args:
    fake_logits: [B] logits of generated examples.

  Returns:
    [B] losses in nats.
  """
  return binary_cross_entropy(fake_logits, True)


class Loss(NamedTuple):
  """The losses that the two players minimise."""

  discriminator: Callable[[jax.Array, jax.Array], jax.Array]
  generator: Callable[[jax.Array], jax.Array]


LOSSES = {
  'minimax': Loss(discriminator_loss, minimax_generator_loss),
  'non_saturating': Loss(discriminator_loss, non_saturating_generator_loss),
}
