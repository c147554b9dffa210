"""A two-level linear-Gaussian model, whose log Pr(x) is a closed form.

z ~ N(0, I), h = A z + noise, x = W h + b + noise. All latents are expressed as
standard normal ones.
"""

import jax
import jax.numpy as jnp
import numpy as np

NUM, TOP, MIDDLE, SIZE = 5, 2, 3, 6
LATENT = TOP + MIDDLE
MIDDLE_SCALE, SCALE = 0.5, 0.6


def create(dtype=np.float32):
  """The parameters A, W and b."""
  random = np.random.default_rng(0)
  return tuple(
    random.normal(size=shape).astype(dtype)
    for shape in ((MIDDLE, TOP), (SIZE, MIDDLE), (SIZE,))
  )


def mean_of(params, z):
  """The mean of x [..., SIZE] for z [..., LATENT]."""
  a, w, b = params
  h = z[..., :TOP] @ a.T + MIDDLE_SCALE * z[..., TOP:]
  means = h @ w.T
  return means + jnp.broadcast_to(b, means.shape)


def log_joint(arguments, z):
  params, x = arguments
  residuals = (x[:, None] - mean_of(params, z)) / SCALE
  constant = SIZE * np.log(SCALE) + 0.5 * (SIZE + LATENT) * np.log(2 * np.pi)
  squares = jnp.sum(residuals**2, -1) + jnp.sum(z**2, -1)
  return -0.5 * squares - constant


def covariance(params):
  a, w, _ = (np.asarray(p, np.float64) for p in params)
  middle = a @ a.T + MIDDLE_SCALE**2 * np.eye(MIDDLE)
  return w @ middle @ w.T + SCALE**2 * np.eye(SIZE)


def log_normal(x, mean, covariance):
  """Log N(x; mean, covariance), float64 [N]."""
  residuals = np.asarray(x, np.float64) - np.asarray(mean, np.float64)
  solved = np.linalg.solve(covariance, residuals.T).T
  _, log_det = np.linalg.slogdet(covariance)
  constant = log_det + residuals.shape[1] * np.log(2 * np.pi)
  return -0.5 * (np.sum(residuals * solved, axis=1) + constant)


def log_prob(params, x):
  return log_normal(x, params[2], covariance(params))


def simulate(params, seed, num=NUM):
  """Draws z [N, LATENT], and x [N, SIZE] for it."""
  random = np.random.default_rng(seed)
  z = random.normal(size=(num, LATENT)).astype(params[1].dtype)
  noise = random.normal(size=(num, SIZE)).astype(z.dtype)
  return z, np.asarray(mean_of(params, z) + SCALE * noise)


def keys_of(seed, num=NUM):
  return jax.random.split(jax.random.key(seed), num)
