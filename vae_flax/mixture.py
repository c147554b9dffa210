"""Mixture of Gaussians in one dimension: exact, and fitted by EM (UDL 17.1.1).

This is the simplest latent variable model. A discrete z selects one of N
Gaussians: $Pr(x) = Σ_n λ_n N(x; μ_n, σ²_n)$ (Understanding Deep Learning, UDL,
equations 17.3 and 17.4). The sum over z is tractable, so the density and the
posterior are exact, and EM maximises the likelihood itself rather than a lower
bound (UDL problem 17.7).

Log densities are per example and in nats. They and their gradients are finite
as long as $(x - μ_n)² / σ²_n$ does not overflow.

Dimensions: B batch, N components, T steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixture(NamedTuple):
  """Parameters λ, μ and σ² of the components."""

  weights: jax.Array  # [N], in [0, 1], summing to 1
  means: jax.Array  # [N], in units of x
  variances: jax.Array  # [N], positive, in units of x squared


def component_log_densities(mixture: Mixture, x: jax.Array) -> jax.Array:
  """Log density of each component, log Pr(x|z=n) (UDL 17.3).

  Args:
    mixture: N components.
    x: [B].

  Returns:
    [B, N] log densities in nats, without the components' weights.
  """
  variances = mixture.variances[None, :]
  squares = (x[:, None] - mixture.means[None, :]) ** 2 / variances  # [B, N]
  return -0.5 * (squares + jnp.log(2 * jnp.pi * variances))


def log_density(mixture: Mixture, x: jax.Array) -> jax.Array:
  """Log density log Pr(x), summed over the components (UDL 17.4).

  Args:
    mixture: N components.
    x: [B].

  Returns:
    [B] log densities in nats.
  """
  # A weight may be 0. Its gradient is finite as a factor, but not as log(0).
  return jax.nn.logsumexp(
    component_log_densities(mixture, x), 1, b=mixture.weights[None, :]
  )


def responsibilities(mixture: Mixture, x: jax.Array) -> jax.Array:
  """Posterior Pr(z=n|x), by Bayes' rule.

  Args:
    mixture: N components.
    x: [B].

  Returns:
    [B, N] probabilities; each row sums to 1, even for x far from every mean.
  """
  joint = component_log_densities(mixture, x) + jnp.log(mixture.weights)[None]
  return jax.nn.softmax(joint, axis=1)


def sample(
  mixture: Mixture, key: jax.Array, num: int
) -> tuple[jax.Array, jax.Array]:
  """Ancestral sampling: draws a component, then x from it.

  Args:
    mixture: N components.
    key: consumed.
    num: number of samples.

  Returns:
    Components, int32 [num], and samples x, [num].
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

  The E step computes `responsibilities`, the posterior under the old
  parameters. The M step maximises the expected log joint density under them.

  The likelihood is unbounded: a component can shrink onto a single x, where its
  density grows without limit. `min_variance` prevents that. The M step's
  objective is unimodal in each variance, so clipping gives the best allowed
  variance, and the likelihood never falls as long as the old variances are at
  least `min_variance` too.

  Args:
    mixture: N components.
    x: [B] data, of the mixture's dtype.
    min_variance: in units of x squared; choose it well below the variance of
      the narrowest cluster.

  Returns:
    The next mixture. A component with no responsibility for any x keeps its
    mean and variance and gets weight 0.
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
  """Fits a mixture with `num_steps` steps of EM.

  Args:
    mixture: initial parameters.
    x: [B] data, of the mixture's dtype.
    num_steps: T.
    min_variance: see `em_step`.

  Returns:
    The path, a Mixture of arrays [T + 1, N] that begins with `mixture`, and the
    mean log-likelihood along it, [T + 1], in nats per example.
  """

  def step(mixture, _):
    likelihood = jnp.mean(log_density(mixture, x))
    return em_step(mixture, x, min_variance), (mixture, likelihood)

  return jax.lax.scan(step, mixture, length=num_steps + 1)[1]
