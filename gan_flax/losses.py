"""Losses of the two players, as pure functions of the discriminator's logits.

The discriminator f[x, φ] returns a logit; sig[f] is its probability that x is
real. The losses of the original game follow from binary cross entropy
(Understanding Deep Learning, UDL, section 15.1; Goodfellow et al. 2014,
arXiv:1406.2661), and are in nats; others take f for a score.

Every loss is per example; the train step takes the mean over the batch.
Logarithms are written with softplus, log(1 + e^x), since log(sig[x]) overflows
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


def least_squares_discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array
) -> jax.Array:
  """Half the squared distances to 1 for real and to 0 for generated examples.

  Mao et al. (2017), arXiv:1611.04076, equation 9: unlike the logistic losses'
  its gradient grows with the distance.

  Args:
    real_logits: [B] scores of real examples.
    fake_logits: [B] scores of generated examples.

  Returns:
    [B] losses.
  """
  return 0.5 * ((real_logits - 1) ** 2 + fake_logits**2)


def least_squares_generator_loss(fake_logits: jax.Array) -> jax.Array:
  """Half the squared distance to 1 (Mao et al. 2017, equation 9), [B]."""
  return 0.5 * (fake_logits - 1) ** 2


def hinge_discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array
) -> jax.Array:
  """What scores fall short of a margin of 1 (Lim & Ye 2017, arXiv:1705.02894).

  Examples beyond the margin teach the discriminator nothing more.

  Args:
    real_logits: [B] scores of real examples.
    fake_logits: [B] scores of generated examples.

  Returns:
    [B] losses.
  """
  return jax.nn.relu(1 - real_logits) + jax.nn.relu(1 + fake_logits)


def wasserstein_discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array
) -> jax.Array:
  """How far the critic holds real and generated examples apart, negated.

  Over all critics whose slope is nowhere above 1, the largest mean distance is
  the Wasserstein distance (UDL 15.2; Arjovsky et al. 2017, arXiv:1701.07875).
  What bounds the slope is not here: see `gan_flax.penalties`.

  Args:
    real_logits: [B] scores of real examples, no logits but plain numbers.
    fake_logits: [B] scores of generated examples.

  Returns:
    [B] losses.
  """
  return fake_logits - real_logits


def negative_score(fake_logits: jax.Array) -> jax.Array:
  """The generator's part of the hinge and Wasserstein games, [B]."""
  return -fake_logits


def relativistic_loss(
  better_logits: jax.Array, worse_logits: jax.Array
) -> jax.Array:
  """-log sig of the difference in a pair of a real and a generated example.

  For the discriminator the real example should be the better one, for the
  generator the other. With a zero-centred penalty on both kinds of example the
  game converges (Jolicoeur-Martineau 2018, arXiv:1807.00734; Huang et al. 2024,
  arXiv:2501.05441, equation 2).

  Args:
    better_logits: [B] of the examples that should have the higher score.
    worse_logits: [B] of the others.

  Returns:
    [B] losses in nats.
  """
  return jax.nn.softplus(worse_logits - better_logits)


class Loss(NamedTuple):
  """The losses that the two players minimise.

  Both are functions of the logits [B] of real and of generated examples.
  """

  discriminator: Callable[[jax.Array, jax.Array], jax.Array]
  generator: Callable[[jax.Array, jax.Array], jax.Array]
  is_classifier: bool  # sig[logit] is the probability of being real
  needs_bound: bool = False  # on the slope of the discriminator


def _of_fakes(
  loss: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  return lambda unused_real_logits, fake_logits: loss(fake_logits)


LOSSES = {
  'minimax': Loss(
    discriminator_loss, _of_fakes(minimax_generator_loss), is_classifier=True
  ),
  'non_saturating': Loss(
    discriminator_loss,
    _of_fakes(non_saturating_generator_loss),
    is_classifier=True,
  ),
  'least_squares': Loss(
    least_squares_discriminator_loss,
    _of_fakes(least_squares_generator_loss),
    is_classifier=False,
  ),
  'hinge': Loss(
    hinge_discriminator_loss, _of_fakes(negative_score), is_classifier=False
  ),
  'wasserstein': Loss(
    wasserstein_discriminator_loss,
    _of_fakes(negative_score),
    is_classifier=False,
    needs_bound=True,
  ),
  'relativistic': Loss(
    relativistic_loss,
    lambda real_logits, fake_logits: relativistic_loss(
      fake_logits, real_logits
    ),
    is_classifier=False,
  ),
}
