"""Interpolation between latents."""

import jax
import jax.numpy as jnp
import numpy as np

from common_flax import prng
from common_flax.latents import by_number
from common_flax.latents import of_seeds
from common_flax.latents import slerp


def test_slerp_stays_on_the_sphere_between_its_ends():
  start, end = jax.random.normal(jax.random.key(0), (2, 50))
  start, end = start / jnp.linalg.norm(start), end / jnp.linalg.norm(end)
  weights = np.linspace(0, 1, 9, dtype=np.float32)
  arc = jax.vmap(slerp, (None, None, 0))(start, end, weights)
  np.testing.assert_allclose(arc[0], start, atol=1e-6)
  np.testing.assert_allclose(arc[-1], end, atol=1e-6)
  np.testing.assert_allclose(jnp.linalg.norm(arc, axis=1), 1, rtol=1e-5)
  angles = np.arccos(np.sum(arc[1:] * arc[:-1], axis=1))
  np.testing.assert_allclose(angles, angles[0], rtol=1e-3)


def test_slerp_between_equal_latents_is_that_latent():
  latent = jnp.ones(4)
  np.testing.assert_allclose(
    slerp(latent, latent, jnp.float32(0.3)), latent, rtol=1e-5
  )


def test_slerp_through_the_origin_is_a_straight_line():
  latent, origin = jnp.ones(4), jnp.zeros(4)
  for ends in ((latent, origin), (origin, latent)):
    np.testing.assert_allclose(slerp(*ends, jnp.float32(0.5)), latent / 2)


def test_a_seed_gives_the_latent_of_its_sample_0():
  def draw(key):
    return jax.random.normal(key, (5,))

  seeds = [7, 0, 2**32 - 1]
  for seed, latent in zip(seeds, of_seeds(draw, seeds), strict=True):
    key = prng.stream(prng.root_key(seed), 'sample')
    np.testing.assert_array_equal(latent, by_number(draw, key, np.arange(3))[0])
