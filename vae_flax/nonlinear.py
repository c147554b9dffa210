"""Nonlinear latent variable model with one or two latents, by quadrature.

$Pr(z) = N(z; 0, I)$ and $Pr(x|z) = N(x; f[z, φ], σ²I)$, hence
$Pr(x) = ∫ Pr(x|z) Pr(z) dz$ (Understanding Deep Learning, UDL, equations 17.5
to 17.7). With one or two latents the integral is a sum over a grid, which gives
the likelihood and the posterior that a VAE can only bound and approximate.

The sum is the trapezoidal rule over [-limit, limit] on each axis of z. For a
smooth, peaked integrand it converges faster than any power of the spacing h: if
the posterior has standard deviation s, the relative error in Pr(x) is about
$2 exp(-2π² s²/h²)$, which is 5e-9 at s = h and 1e-2 at s = h/2. Gauss-Hermite
quadrature needs fewer nodes, but they are too far apart for a sharp posterior.
Posterior mass outside the limits is lost. In float32, rounding adds an error of
about 1e-5 nats; use `jax_enable_x64` for less.

Log densities are per example and in nats.

Dimensions: B batch, D size of x, Z latent size, P points of the grid.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

_DEFAULT_NUM_POINTS = {1: 1601, 2: 321}  # spacings 0.01 and 0.05
_LIMIT = 8.0  # a standard normal has mass 1e-15 beyond it
_EXAMPLES_AT_ONCE = 64  # bounds memory to 64 x P x D numbers


@dataclasses.dataclass(frozen=True)
class NonlinearModel:
  """A nonlinear latent variable model and its integration grid.

  Raises:
    ValueError: if a field is out of range.
  """

  decode: Callable[[jax.Array], jax.Array]  # f: [..., Z] -> [..., D]
  deviation: float  # σ of the noise on every axis of x
  latent_size: int  # Z, 1 or 2
  num_points: int | None = None  # per axis; default 1601, or 321 if Z = 2
  limit: float = _LIMIT  # integrals cover |z| <= limit

  def __post_init__(self):
    if self.latent_size not in _DEFAULT_NUM_POINTS:
      raise ValueError(f'latent_size={self.latent_size} must be 1 or 2.')
    if self.num_points is not None and self.num_points < 2:
      raise ValueError(f'num_points={self.num_points} must be at least 2.')
    for name in ('deviation', 'limit'):
      value = getattr(self, name)
      # A learned deviation may be a tracer, which cannot be compared.
      if not isinstance(value, jax.Array) and not value > 0:
        raise ValueError(f'{name}={value} must be positive.')


def _book_curve(z: jax.Array) -> jax.Array:
  first = 0.5 * jnp.exp(jnp.sin(2 + 3.675 * z))
  return jnp.concatenate([first, jnp.cos(2 + 2.85 * z)], axis=-1)


# The model of UDL's notebook 17.1: a curve in the plane, σ² = 0.04. The second
# coordinate is a cosine in the notebook's code and a sine in its text.
BOOK_MODEL = NonlinearModel(_book_curve, deviation=0.2, latent_size=1)


class Grid(NamedTuple):
  """Quadrature points and weights: $∫ g[z] dz ≈ Σ_p w_p g[z_p]$."""

  points: jax.Array  # [P, Z], the last latent varies fastest
  weights: jax.Array  # [P]


def grid(model: NonlinearModel) -> Grid:
  """Creates the grid for a model's integrals over z.

  Returns:
    P = num_points^Z points, in the default float dtype.
  """
  return _grid(model, model.limit)


def _grid(model: NonlinearModel, limit: float) -> Grid:
  num = model.num_points or _DEFAULT_NUM_POINTS[model.latent_size]
  spacing = 2 * limit / (num - 1)
  ends = jnp.array([0, -1])
  weights = jnp.full(num, spacing).at[ends].set(spacing / 2)

  def product(values: jax.Array) -> jax.Array:
    axes = jnp.meshgrid(*[values] * model.latent_size, indexing='ij')
    return jnp.stack(axes, axis=-1).reshape(-1, model.latent_size)  # [P, Z]

  points = product(jnp.linspace(-limit, limit, num))
  return Grid(points, jnp.prod(product(weights), axis=1))


def _log_normal(squares: jax.Array, size: int) -> jax.Array:
  """Log density of N(0, I) in `size` dimensions, given squared distances."""
  return -0.5 * (squares + size * jnp.log(2 * jnp.pi))


def log_prior(z: jax.Array) -> jax.Array:
  """Log prior log Pr(z) in nats (UDL 17.5): [..., Z] -> [...]."""
  return _log_normal(jnp.sum(z**2, axis=-1), z.shape[-1])


def _log_likelihood(
  model: NonlinearModel, x: jax.Array, decoded: jax.Array
) -> jax.Array:
  """Log Pr(x|z) in nats [P], for x [D] and f[z, φ] [P, D] (UDL 17.6)."""
  size = x.shape[-1]
  squares = jnp.sum(((x[None, :] - decoded) / model.deviation) ** 2, axis=-1)
  return _log_normal(squares, size) - size * jnp.log(model.deviation)


def _joint_on_grid(
  model: NonlinearModel,
) -> tuple[Grid, Callable[[jax.Array], jax.Array]]:
  """Returns the grid and a function from x [D] to log Pr(x, z) on it, [P]."""
  points = grid(model)
  decoded = model.decode(points.points)  # shared by all x
  prior = log_prior(points.points)
  return points, lambda x: _log_likelihood(model, x, decoded) + prior


def log_marginal(model: NonlinearModel, x: jax.Array) -> jax.Array:
  """Log density log Pr(x), integrated over the latents (UDL 17.7).

  Args:
    model: latent variable model.
    x: [B, D].

  Returns:
    [B] log densities in nats.
  """
  points, log_joint = _joint_on_grid(model)

  def of_one(x):
    return jax.nn.logsumexp(log_joint(x), b=points.weights)

  return jax.lax.map(of_one, x, batch_size=_EXAMPLES_AT_ONCE)


def posterior(model: NonlinearModel, x: jax.Array) -> tuple[Grid, jax.Array]:
  """Posterior Pr(z|x) on the grid, by Bayes' rule (UDL 17.19).

  Args:
    model: latent variable model.
    x: [B, D].

  Returns:
    The grid, and the densities [B, P] at its points. For each x,
    Σ_p weights_p density_p = 1.
  """
  points, log_joint = _joint_on_grid(model)
  joint = jax.vmap(log_joint)(x)  # [B, P]
  # Softmax sums to 1 even for distant x, where log Pr(x) is so large that
  # float32 cannot resolve a nat.
  shares = jax.nn.softmax(joint + jnp.log(points.weights)[None, :], axis=1)
  return points, shares / points.weights[None, :]


def posterior_moments(
  model: NonlinearModel, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean and variance of each latent under the posterior Pr(z|x).

  Args:
    model: latent variable model.
    x: [B, D].

  Returns:
    Means and variances, [B, Z] each.
  """
  points, densities = posterior(model, x)
  shares = (densities * points.weights[None, :])[:, :, None]  # [B, P, 1]
  z = points.points[None]  # [1, P, Z]
  means = jnp.sum(shares * z, axis=1)
  return means, jnp.sum(shares * (z - means[:, None, :]) ** 2, axis=1)


def sample(
  model: NonlinearModel, key: jax.Array, num: int
) -> tuple[jax.Array, jax.Array]:
  """Ancestral sampling: draws z from the prior, then x given z (UDL 17.2.1).

  Args:
    model: latent variable model.
    key: consumed.
    num: number of samples.

  Returns:
    Latents [num, Z] and samples x [num, D].
  """
  key_z, key_x = jax.random.split(key)
  z = jax.random.normal(key_z, (num, model.latent_size))
  decoded = model.decode(z)
  noise = jax.random.normal(key_x, decoded.shape, decoded.dtype)
  return z, decoded + model.deviation * noise


def elbo(
  model: NonlinearModel,
  x: jax.Array,
  mean: jax.Array,
  log_var: jax.Array,
) -> jax.Array:
  """Evidence lower bound $∫ q log[Pr(x, z)/q] dz$, Gaussian q (UDL 17.15).

  Args:
    model: latent variable model.
    x: [B, D].
    mean: [B, Z] of q(z|x).
    log_var: [B, Z] of q(z|x), the log of the variances.

  Returns:
    [B] bounds in nats.
  """
  # The grid covers ε in z = mean + deviation ε, so it follows q wherever q is
  # and however narrow.
  noise = _grid(model, _LIMIT)
  log_noise = log_prior(noise.points)
  shares = noise.weights * jnp.exp(log_noise)

  def of_one(example):
    x, mean, log_var = example
    z = mean[None, :] + jnp.exp(0.5 * log_var)[None, :] * noise.points
    log_joint = _log_likelihood(model, x, model.decode(z)) + log_prior(z)
    log_q = log_noise - 0.5 * jnp.sum(log_var)
    return jnp.sum(shares * (log_joint - log_q))

  examples = (x, mean, log_var)
  return jax.lax.map(of_one, examples, batch_size=_EXAMPLES_AT_ONCE)


def kl_to_posterior(
  model: NonlinearModel,
  x: jax.Array,
  mean: jax.Array,
  log_var: jax.Array,
) -> jax.Array:
  """$KL[q(z|x) || Pr(z|x)]$, the gap below log Pr(x) (UDL 17.17).

  It is the difference of two integrals, log Pr(x) and the ELBO. Each has its
  own grid, since q may be far from the posterior.

  Args:
    model: latent variable model.
    x: [B, D].
    mean: [B, Z] of q(z|x).
    log_var: [B, Z] of q(z|x), the log of the variances.

  Returns:
    [B] divergences in nats; 0, up to rounding, where q is the posterior.
  """
  return log_marginal(model, x) - elbo(model, x, mean, log_var)
