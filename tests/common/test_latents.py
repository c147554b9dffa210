"""Interpolation between latents."""

import jax
import jax.numpy as jnp
import numpy as np

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
