"""Penalties on the input gradients of a discriminator, as pure functions.

Each is a function of the gradient of every example's logit with respect to that
example. It has no meaning where examples share the statistics of a batch. The
minibatch deviation couples a few examples, too; like StyleGAN, we ignore that.

Dimensions: B batch; examples are [B, ...].
"""

from collections.abc import Callable
import dataclasses

import jax
from jax import lax
import jax.numpy as jnp

Critic = Callable[[jax.Array], jax.Array]  # examples [B, ...] -> logits [B]
# Examples [B, ...] and a scale [B] of all biases -> logits [B].
HomogeneousCritic = Callable[[jax.Array, jax.Array], jax.Array]


def squared_norms(x: jax.Array) -> jax.Array:
  """The squared norm of each example, [B, ...] -> [B]."""
  return jnp.sum(x**2, axis=range(1, x.ndim))


def squared_input_gradient_norms(critic: Critic, x: jax.Array) -> jax.Array:
  """The squared norm of each example's input gradient, [B]."""
  return squared_norms(jax.grad(lambda x: jnp.sum(critic(x)))(x))


def logits_and_input_gradients(
  critic: HomogeneousCritic, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The logits and their input gradients, with one derivative for both.

  A network of linear layers and leaky ReLUs is homogeneous: with x and all its
  biases doubled, its logit is doubled. Then Euler's theorem gives the logit as
  a function of its gradients,

    f(x, s) = <df/dx, x> + s df/ds    where s scales the biases, here s = 1.

  A loss of logits and input gradients is so a loss of gradients alone. Its
  gradient with respect to the parameters takes one pass through the network
  where the loss of the logits and the penalty took one each: four instead of
  six, if a forward pass counts 1 and the gradient of the parameters, too. (The
  second derivative of a leaky ReLU is 0.)

  Args:
    critic: the discriminator.
    x: [B, ...].

  Returns:
    The logits [B] and the gradients [B, ...].
  """
  logits, pullback = jax.vjp(critic, x, jnp.ones(len(x), x.dtype))
  gradients, slopes = pullback(jnp.ones_like(logits))
  by_euler = jnp.sum(gradients * x, axis=range(1, x.ndim)) + slopes
  # The value is the network's own, whose rounding errors are smaller.
  return lax.stop_gradient(logits - by_euler) + by_euler, gradients


def zero_centred(critic: Critic, x: jax.Array) -> jax.Array:
  """Half the squared input gradient norm: R1 at real examples, R2 at fakes.

  Mescheder et al. (2018), arXiv:1801.04406, equations 9 and 10, without γ.

  Args:
    critic: the discriminator.
    x: [B, ...].

  Returns:
    [B].
  """
  return 0.5 * squared_input_gradient_norms(critic, x)


def interpolate(
  real: jax.Array, fake: jax.Array, weights: jax.Array
) -> jax.Array:
  """Points on the lines between pairs of a real and a generated example.

  Args:
    real: [B, ...].
    fake: [B, ...].
    weights: interpolation weights [B] in [0, 1]; 1 gives the real example.

  Returns:
    [B, ...].
  """
  weights = weights.reshape(-1, *[1] * (real.ndim - 1))
  return weights * real + (1 - weights) * fake


def one_centred(critic: Critic, x: jax.Array) -> jax.Array:
  """The squared distance of input gradient norms from 1 (WGAN-GP).

  Gulrajani et al. (2017), arXiv:1704.00028, equation 3, without λ.

  Args:
    critic: the discriminator.
    x: [B, ...], of `interpolate`.

  Returns:
    [B].
  """
  squares = squared_input_gradient_norms(critic, x)
  # The square root has no finite gradient at 0.
  norms = jnp.sqrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny))
  return (norms - 1) ** 2


@dataclasses.dataclass(frozen=True)
class Penalties:
  """The weights of the penalties, and how often they are applied."""

  gradient: float  # λ of `one_centred`
  r1: float  # γ of `zero_centred` at real examples
  r2: float  # γ of `zero_centred` at generated examples
  # Applied every N steps and scaled by N (lazy regularisation).
  every_steps: int
  # The weights fall along a cosine to this share of them at `num_steps`, as
  # R3GAN's do (Huang et al. 2024, arXiv:2501.05441, appendix).
  final_share: float = 1.0
  num_steps: int = 1

  @property
  def are_off(self) -> bool:
    """Whether no penalty is applied."""
    return self.gradient == self.r1 == self.r2 == 0

  @property
  def are_of_both(self) -> bool:
    """Whether all that is applied is R1 and R2, both at every step."""
    only_zero_centred = self.gradient == 0 and self.every_steps == 1
    return only_zero_centred and self.r1 != 0 and self.r2 != 0

  def share(self, step: jax.Array) -> jax.Array | float:
    """The share of the weights that remains at a step, int32 []."""
    if self.final_share == 1:
      return 1.0
    done = jnp.minimum(step / self.num_steps, 1)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * done))
    return self.final_share + (1 - self.final_share) * cosine

  def total(
    self,
    critic: Critic,
    real: jax.Array,
    fake: jax.Array,
    weights: jax.Array,
  ) -> jax.Array:
    """The mean penalty of a batch at a step that applies it, [].

    Args:
      critic: the discriminator.
      real: [B, ...].
      fake: [B, ...].
      weights: interpolation weights [B] in [0, 1].
    """
    total = jnp.zeros((), real.dtype)
    if self.gradient:
      between = interpolate(real, fake, weights)
      total += self.gradient * jnp.mean(one_centred(critic, between))
    if self.r1:
      total += self.r1 * jnp.mean(zero_centred(critic, real))
    if self.r2:
      total += self.r2 * jnp.mean(zero_centred(critic, fake))
    return self.every_steps * total

  def of_gradients(self, real: jax.Array, fake: jax.Array) -> jax.Array:
    """R1 and R2 of a batch's input gradients, [], for `are_of_both`.

    Args:
      real: [B, ...], at real examples.
      fake: [B, ...], at generated examples.
    """
    r1, r2 = (0.5 * jnp.mean(squared_norms(x)) for x in (real, fake))
    return self.r1 * r1 + self.r2 * r2
