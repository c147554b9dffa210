"""Mixture of Gaussians in one dimension, exactly and by EM (UDL 17.1.1).

The simplest latent variable model: a discrete z says which of N Gaussians an
x comes from, Pr(x) = Σ_n λ_n N(x; μ_n, σ²_n) (Understanding Deep Learning, UDL,
17.3-17.4). The sum over z can be done, so density and posterior are exact, and
EM climbs the likelihood without a bound's gap (UDL problem 17.7).

Log densities are per example and in nats. They and their gradients are finite
for every x whose squared distance from a mean, in variances, is.

Dimensions: B batch, N components, T steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixture(NamedTuple):
  """λ, μ and σ² of the components."""

  weights: jax.Array  # [N], from 0 to 1, with sum 1
  means: jax.Array  # [N], in the unit of x
  variances: jax.Array  # [N], above 0, in the unit of x squared


def component_log_densities(mixture: Mixture, x: jax.Array) -> jax.Array:
  """The components' log densities, log Pr(x|z=n) (UDL 17.3).

  Args:
    mixture: of N components.
    x: [B].

  Returns:
    [B, N] log densities in nats, without the components' weights.
  """
  variances = mixture.variances[None, :]
  squares = (x[:, None] - mixture.means[None, :]) ** 2 / variances  # [B, N]
  return -0.5 * (squares + jnp.log(2 * jnp.pi * variances))


def log_density(mixture: Mixture, x: jax.Array) -> jax.Array:
  """The log density log Pr(x), components summed out (UDL 17.4).

  Args:
    mixture: of N components.
    x: [B].

  Returns:
    [B] log densities in nats.
  """
  # A weight may be 0: as a factor it keeps the gradient finite, log(0) does
  # not.
  return jax.nn.logsumexp(
    component_log_densities(mixture, x), 1, b=mixture.weights[None, :]
  )


def responsibilities(mixture: Mixture, x: jax.Array) -> jax.Array:
  """Pr(z=n|x), the posterior by Bayes' rule.

  Args:
    mixture: of N components.
    x: [B].

  Returns:
    [B, N] probabilities; a row's sum is 1, however far away its x is.
  """
  joint = component_log_densities(mixture, x) + jnp.log(mixture.weights)[None]
  return jax.nn.softmax(joint, axis=1)


def sample(
  mixture: Mixture, key: jax.Array, num: int
) -> tuple[jax.Array, jax.Array]:
  """Ancestral sampling: first a component, then an x of it.

  Args:
    mixture: of N components.
    key: consumed.
    num: how many.

  Returns:
    Components, int32 [num], and the x that came of them, [num].
  """
  key_component, key_x = jax.random.split(key)
  components = jax.random.categorical(
    key_component, jnp.log(mixture.weights), shape=(num,)
  )
  means = jnp.asarray(mixture.means)[components]
  deviations = jnp.sqrt(mixture.variances)[components]
  noise = jax.random.normal(key_x, (num,), means.dtype)
  return components, means + deviations * noise


def em_step(
  mixture: Mixture, x: jax.Array, min_variance: float = 1e-3
) -> Mixture:
  """One step of expectation maximisation (UDL problem 17.7).

  The E step is `responsibilities`, the posterior under the old parameters; the
  M step takes the parameters that fit best to data so divided.

  A component that shrinks onto a single x has a density there without bound,
  so the likelihood has no maximum: `min_variance` keeps EM out of that hole.
  Since what the M step maximises falls on both sides of its best variance, the
  nearest allowed one is the best allowed one, and the likelihood never falls,
  provided that the old variances are allowed too.

  Args:
    mixture: of N components.
    x: [B] data, of the mixture's dtype.
    min_variance: in the unit of x squared; well below that of the narrowest
      group that is to be found.

  Returns:
    The next mixture. A component that no x belongs to stays where it is, with
    weight 0.
  """
  shares = responsibilities(mixture, x)  # [B, N]
  counts = jnp.sum(shares, axis=0)  # [N]
  is_used = counts > 0
  divisors = jnp.where(is_used, counts, 1)
  means = jnp.sum(shares * x[:, None], axis=0) / divisors
  squares = (x[:, None] - means[None, :]) ** 2
  variances = jnp.sum(shares * squares, axis=0) / divisors
  return Mixture(
    weights=counts / len(x),
    means=jnp.where(is_used, means, mixture.means),
    variances=jnp.where(
      is_used, jnp.maximum(variances, min_variance), mixture.variances
    ),
  )


def fit(
  mixture: Mixture, x: jax.Array, num_steps: int, min_variance: float = 1e-3
) -> tuple[Mixture, jax.Array]:
  """Fits a mixture by `num_steps` steps of EM.

  Args:
    mixture: to start from.
    x: [B] data, of the mixture's dtype.
    num_steps: T.
    min_variance: see `em_step`.

  Returns:
    The path, a Mixture of arrays [T + 1, N] whose entry 0 is the start; and
    the mean log-likelihood at each of its entries, [T + 1], nats per example.
  """

  def step(mixture, _):
    likelihood = jnp.mean(log_density(mixture, x))
    return em_step(mixture, x, min_variance), (mixture, likelihood)

  return jax.lax.scan(step, mixture, length=num_steps + 1)[1]
