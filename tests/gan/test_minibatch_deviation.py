"""The minibatch deviation against NumPy."""

import jax
import numpy as np
import pytest

from gan_flax.models.discriminators import with_minibatch_deviation


@pytest.mark.parametrize('shape', [(8, 3, 3, 5), (8, 6)])
def test_the_feature_is_the_mean_deviation_of_neighbours(shape):
  x = np.random.default_rng(0).normal(size=shape)
  with jax.enable_x64(True):
    result = np.asarray(jax.jit(with_minibatch_deviation)(x))
  assert result.shape == (*shape[:-1], shape[-1] + 1)
  np.testing.assert_array_equal(result[..., :-1], x)
  for start in (0, 4):
    expected = x[start : start + 4].std(axis=0).mean()
    np.testing.assert_allclose(
      result[start : start + 4, ..., -1], expected, rtol=1e-6
    )


def test_equal_examples_have_no_deviation_and_a_finite_gradient():
  x = np.ones((4, 2), np.float32)
  feature, gradient = jax.value_and_grad(
    lambda x: with_minibatch_deviation(x)[0, -1]
  )(x)
  assert feature == pytest.approx(0, abs=1e-3)
  assert np.isfinite(gradient).all()
