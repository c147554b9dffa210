"""Penalties on the slope of a discriminator, as pure functions.

Each is a function of the gradient of every example's logit with respect to that
example, so it has no meaning where examples share a batch's statistics. The
minibatch deviation couples a few examples too: as in StyleGAN, that is let
pass.

Dimensions: B batch; examples are [B, ...].
"""

from collections.abc import Callable
import dataclasses

import jax
import jax.numpy as jnp

from common_flax.sharding import drawn_globally

Critic = Callable[[jax.Array], jax.Array]  # examples [B, ...] -> logits [B]


def squared_slopes(critic: Critic, x: jax.Array) -> jax.Array:
  """The squared norm of each example's gradient, [B]."""
  gradients = jax.grad(lambda x: jnp.sum(critic(x)))(x)
  return jnp.sum(gradients**2, axis=range(1, x.ndim))


def zero_centred(critic: Critic, x: jax.Array) -> jax.Array:
  """Half the squared slope: R1 at real examples, R2 at generated ones.

  Mescheder et al. (2018), arXiv:1801.04406, equations 9 and 10, without γ.

  Args:
    critic: the discriminator.
    x: [B, ...].

  Returns:
    [B].
  """
  return 0.5 * squared_slopes(critic, x)


def one_centred(
  critic: Critic,
  real: jax.Array,
  fake: jax.Array,
  key: jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """The squared distance of slopes from 1, between real and generated examples.

  Gulrajani et al. (2017), arXiv:1704.00028, equation 3, without λ: the slope is
  taken at a random point of the line that joins a pair.

  Args:
    critic: the discriminator.
    real: [B, ...].
    fake: [B, ...].
    key: consumed.
    axis_name: mapped axis over which the batch is split, if any.

  Returns:
    [B].
  """
  shape = (1,) * (real.ndim - 1)
  share = drawn_globally(
    lambda num: jax.random.uniform(key, (num, *shape), real.dtype),
    len(real),
    axis_name,
  )
  slopes = squared_slopes(critic, share * real + (1 - share) * fake)
  # The root has no finite gradient at 0.
  norms = jnp.sqrt(jnp.maximum(slopes, jnp.finfo(slopes.dtype).tiny))
  return (norms - 1) ** 2


@dataclasses.dataclass(frozen=True)
class Penalties:
  """How much of each penalty a discriminator pays, and how often."""

  gradient: float  # of `one_centred`, the paper's λ
  r1: float  # of `zero_centred` at real examples, the paper's γ
  r2: float  # of `zero_centred` at generated examples
  every_steps: int  # paid that rarely, and so many times as much

  @property
  def are_free(self) -> bool:
    """Whether there is nothing to pay."""
    return self.gradient == self.r1 == self.r2 == 0

  def total(
    self,
    critic: Critic,
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    axis_name: str | None = None,
  ) -> jax.Array:
    """What is paid at one step where it is paid, [] the mean over the batch."""
    total = jnp.zeros((), real.dtype)
    if self.gradient:
      slopes = one_centred(critic, real, fake, key, axis_name)
      total += self.gradient * jnp.mean(slopes)
    if self.r1:
      total += self.r1 * jnp.mean(zero_centred(critic, real))
    if self.r2:
      total += self.r2 * jnp.mean(zero_centred(critic, fake))
    return self.every_steps * total
