"""Losses of the two players, as pure functions of the discriminator's logits.

The discriminator f[x, φ] returns a logit; sig[f] is the probability that x is
real. The losses of the original game are binary cross entropies in nats
(Understanding Deep Learning, UDL, section 15.1; Goodfellow et al. 2014,
arXiv:1406.2661). The other losses treat f as a score without a unit.

Every loss is per example; the train step averages over the batch. Logarithms
are written as softplus(x) = log(1 + e^x), because log(sig[x]) overflows at
logits that a winning discriminator reaches.

Dimensions: B batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax


def binary_cross_entropy(logits: jax.Array, is_real: bool) -> jax.Array:
  """-log of the discriminator's probability of the true class (UDL 15.2).

  Args:
    logits: [B] logits of the examples being real.
    is_real: whether the examples are real.

  Returns:
    [B] losses in nats, finite for every finite logit.
  """
  return jax.nn.softplus(-logits if is_real else logits)


def discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array
) -> jax.Array:
  """Binary cross entropy of real plus that of generated examples (UDL 15.3).

  Args:
    real_logits: [B] logits of real examples.
    fake_logits: [B] logits of generated examples.

  Returns:
    [B] losses in nats; 2 log 2 where both probabilities are one half.
  """
  return binary_cross_entropy(real_logits, True) + binary_cross_entropy(
    fake_logits, False
  )


def minimax_generator_loss(fake_logits: jax.Array) -> jax.Array:
  """The generator's part of the game, $log(1 - sig[f])$ (UDL 15.4-15.5).

  It is the discriminator's loss on generated examples, negated. Its gradient
  vanishes ("saturates") where the discriminator is confident.

  Args:
    fake_logits: [B] logits of generated examples.

  Returns:
    [B] losses in nats, at most 0.
  """
  return -binary_cross_entropy(fake_logits, False)


def non_saturating_generator_loss(fake_logits: jax.Array) -> jax.Array:
  """$-log sig[f]$ (Goodfellow et al. 2014, section 3).

  It has the fixed point of the minimax loss, but its gradient is largest where
  the generator does worst.

  Args:
    fake_logits: [B] logits of generated examples.

  Returns:
    [B] losses in nats.
  """
  return binary_cross_entropy(fake_logits, True)


def least_squares_discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array
) -> jax.Array:
  """Half the squared distance to 1 (real) plus that to 0 (generated).

  Unlike that of logistic losses, its gradient grows with the distance (Mao et
  al. 2017, arXiv:1611.04076, equation 9).

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
  """Shortfall of scores from a margin of 1 (Lim & Ye 2017, arXiv:1705.02894).

  Examples beyond the margin give the discriminator no gradient.

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
  """Score of generated minus score of real examples.

  The Wasserstein distance is the largest mean of real minus generated scores
  over all critics with slopes of at most 1 (UDL 15.2; Arjovsky et al. 2017,
  arXiv:1701.07875). `gan_flax.penalties` bounds the slopes.

  Args:
    real_logits: [B] scores of real examples.
    fake_logits: [B] scores of generated examples.

  Returns:
    [B] losses.
  """
  return fake_logits - real_logits


def negative_score(fake_logits: jax.Array) -> jax.Array:
  """The generator's loss in the hinge and Wasserstein games, [B]."""
  return -fake_logits


def relativistic_loss(
  better_logits: jax.Array, worse_logits: jax.Array
) -> jax.Array:
  """-log sig of the score difference of a real and a generated example.

  The discriminator wants the real example to have the higher score, the
  generator the generated one (Jolicoeur-Martineau 2018, arXiv:1807.00734). With
  a zero-centred penalty on both kinds of example the game converges (Huang et
  al. 2024, arXiv:2501.05441, equation 2).

  Args:
    better_logits: [B] scores of the examples that should score higher.
    worse_logits: [B] scores of the others.

  Returns:
    [B] losses in nats.
  """
  return jax.nn.softplus(worse_logits - better_logits)


class Loss(NamedTuple):
  """The losses of the two players.

  Both are functions of the logits of real and of generated examples, [B] each.
  """

  discriminator: Callable[[jax.Array, jax.Array], jax.Array]
  generator: Callable[[jax.Array, jax.Array], jax.Array]
  is_classifier: bool  # sig[logit] is the probability of being real
  needs_bound: bool = False  # whether the discriminator's slope must be bounded
  # The logit at which an example is as likely real as generated; None if only
  # differences of logits have a meaning.
  boundary: float | None = 0.0


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
    boundary=0.5,
  ),
  'hinge': Loss(
    hinge_discriminator_loss, _of_fakes(negative_score), is_classifier=False
  ),
  'wasserstein': Loss(
    wasserstein_discriminator_loss,
    _of_fakes(negative_score),
    is_classifier=False,
    needs_bound=True,
    boundary=None,
  ),
  'relativistic': Loss(
    relativistic_loss,
    lambda real_logits, fake_logits: relativistic_loss(
      fake_logits, real_logits
    ),
    is_classifier=False,
    boundary=None,
  ),
}
