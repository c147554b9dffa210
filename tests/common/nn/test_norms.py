"""Normalisation against NumPy."""

from flax import linen as nn
import jax
import numpy as np
import pytest

from common_flax.nn import norms

X = np.random.default_rng(0).normal(1, 3, (4, 3, 2, 48))


class Normalised(nn.Module):
  kind: str

  @nn.compact
  def __call__(self, x):
    norm = norms.create_norm(
      self.kind, train=True, momentum=0.9, axis_name=None, param_dtype=x.dtype
    )
    return norm(name='norm')(x)


def normalised(kind):
  with jax.enable_x64(True):
    result, variables = Normalised(kind).init_with_output(jax.random.key(0), X)
  return result, variables


def of_axes(x, axes, epsilon):
  variance = x.var(axis=axes, keepdims=True)
  return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + epsilon)


@pytest.mark.parametrize(
  ('kind', 'epsilon', 'axes'),
  [('batch', 1e-5, (0, 1, 2)), ('layer', 1e-6, (1, 2, 3))],
)
def test_a_norm_is_over_its_axes(kind, epsilon, axes):
  result, variables = normalised(kind)
  np.testing.assert_allclose(result, of_axes(X, axes, epsilon), rtol=1e-6)
  assert variables['params']['norm']['scale'].shape == (48,)


def test_groups_are_of_neighbouring_features():
  """48 features: 16 groups of 3."""
  groups = X.reshape(4, 3, 2, 16, 3)
  expected = of_axes(groups, (1, 2, 4), 1e-6).reshape(X.shape)
  np.testing.assert_allclose(normalised('group')[0], expected, rtol=1e-6)


def test_none_changes_nothing():
  result, variables = normalised('none')
  np.testing.assert_array_equal(result, X)
  assert not variables


def test_another_kind_is_refused():
  with pytest.raises(ValueError, match='batch, layer, group, none'):
    normalised('instance')
