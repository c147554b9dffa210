"""VAEs small enough for exact answers, and what their tests compare with."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_flax import config as vae_config
from vae_flax import inference
from vae_flax import losses
from vae_flax import nonlinear
from vae_flax import steps
from vae_flax.state import init_state
from vae_flax.vae import create_vae

SHAPE = (2, 2, 1)
SIZE = 4
SCALE = 0.3  # of the likelihood
NUM_IMAGES = 3
STEP = np.int32(0)


@functools.cache
def base(latent_size, hidden_sizes):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'dataset.binarise': 'none',
      'model.name': 'mlp',
      'model.hidden_sizes': hidden_sizes,
      'model.activation': 'tanh',
      'model.latent_size': latent_size,
      'likelihood': 'gaussian',
      'likelihood_scale': SCALE,
      'compute_dtype': 'float64',
    }
  )
  return create_vae(config, SHAPE)


def create(latent_size=2, hidden_sizes=(5,), **changes):
  """A small VAE in float64; without hidden layers it is linear.

  Equal arguments give equal VAEs, for which a function is compiled once.
  """
  return dataclasses.replace(base(latent_size, hidden_sizes), **changes)


def init(vae, seed=0):
  """Parameters with biases, too, and deviations below the prior's."""
  params = jax.jit(lambda: init_state(vae, jax.random.key(seed)).params)()
  random = np.random.default_rng(seed)
  params = jax.tree.map(lambda p: p + random.normal(0, 0.3, p.shape), params)
  params['encoder']['log_var']['bias'] -= 1.0
  return params


def quadrature(vae, params):
  """The VAE's decoder as the model whose integrals are known."""
  return nonlinear.NonlinearModel(
    lambda z: inference.decode(vae, params, z).reshape(*z.shape[:-1], SIZE),
    SCALE,
    vae.latent_size,
    num_points=801 if vae.latent_size == 1 else 161,
  )


def close_to_mean(draws, expected, errors=5.0):
  """Means over axis 0 within some standard errors of what they should be."""
  draws = np.asarray(draws)
  standard_error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
  gap = np.abs(draws.mean(axis=0) - expected)
  assert (gap <= errors * standard_error + 1e-9).all(), (gap, standard_error)


def flat(tree):
  return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def over_keys(function, num, seed=0):
  """A function of a key at many keys, stacked."""
  keys = jax.random.split(jax.random.key(seed), num)
  return jax.device_get(
    jax.jit(lambda keys: jax.lax.map(function, keys, batch_size=200))(keys)
  )


def value_and_gradient(vae, params, x, key, step=STEP):
  return jax.value_and_grad(
    lambda params: steps.loss(vae, params, x, key, step), has_aux=True
  )(params)


def same(actual, expected, rtol=1e-12):
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(
      a, b, rtol=rtol, atol=rtol * max(1.0, np.abs(b).max())
    )


@functools.partial(jax.jit, static_argnums=0)
def draw(vae, params, x, key):
  """The divergences [B, Z], means [B, K, H, W, C] and log-weights [B, K]."""
  mean, log_var = inference.encode(vae, params, x)
  z = inference.reparameterise(key, mean, log_var, vae.num_importance_samples)
  return (
    losses.gaussian_kl(mean, log_var),
    inference.decode(vae, params, z)[..., 0],
    inference.log_weights(vae, params, x, z, mean, log_var),
  )


class LinearVAE:
  """A linear decoder and encoder, for which the ELBO is known.

  Columns of W are at right angles, so that the posterior is diagonal.
  """

  matrix = np.array([[0.5, 0.2], [0.5, -0.2], [-0.3, 0.4], [0.3, 0.4]])  # [D,Z]
  offset = np.array([0.2, 0.4, 0.6, 0.8])

  def __init__(self, **changes):
    self.vae = create(2, (), **changes)

  def params_at_posterior(self):
    precision = np.diag(self.matrix.T @ self.matrix) / SCALE**2 + 1
    kernel = self.matrix / SCALE**2 / precision[None]
    bound = self.vae.encoder.max_log_var  # undone, see soft_bound
    bias = bound * np.arctanh(-np.log(precision) / bound)
    params = {
      'encoder': {
        'mean': {'kernel': kernel, 'bias': -self.offset @ kernel},
        'log_var': {'kernel': np.zeros((SIZE, 2)), 'bias': bias},
      },
      'decoder': {'outputs': {'kernel': self.matrix.T, 'bias': self.offset}},
    }
    return jax.tree.map(jnp.asarray, params)

  def params_near_posterior(self, distance):
    random = np.random.default_rng(2)
    return jax.tree.map(
      lambda p: p + random.normal(0, distance, p.shape),
      self.params_at_posterior(),
    )

  def log_marginal(self, x):
    """The log of N(x; b, W Wᵀ + σ²I), [B]."""
    covariance = self.matrix @ self.matrix.T + SCALE**2 * np.eye(SIZE)
    centred = x.reshape(-1, SIZE) - self.offset
    squares = np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    log_det = np.linalg.slogdet(covariance)[1]
    return -0.5 * (squares + log_det + SIZE * np.log(2 * np.pi))

  @staticmethod
  def elbo(params, mean, log_var, x):
    """The expectation over q of UDL 17.18 in closed form, mean over x."""
    outputs = params['decoder']['outputs']
    residuals = (
      x.reshape(-1, SIZE) - mean @ outputs['kernel'] - outputs['bias'][None]
    )
    spread = jnp.exp(log_var) @ jnp.sum(outputs['kernel'] ** 2, axis=1)
    squares = (jnp.sum(residuals**2, axis=1) + spread) / SCALE**2
    reconstruction = -0.5 * (squares + SIZE * np.log(2 * np.pi * SCALE**2))
    divergence = 0.5 * jnp.sum(jnp.exp(log_var) + mean**2 - 1 - log_var, axis=1)
    return jnp.mean(reconstruction - divergence)
