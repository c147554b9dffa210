"""Class-conditional layers against NumPy."""

import types

from flax import linen as nn
import jax
import numpy as np
import pytest

from gan_flax.models import conditioning as conditioning_lib
from gan_flax.models.discriminators import discriminating

RANDOM = np.random.default_rng(0)
NUM_CLASSES = 3
LABELS = np.array([2, 0, 0, 1, 2], np.int32)


@pytest.mark.parametrize('shape', [(5, 4), (5, 2, 3, 4)])
def test_labels_are_appended_to_the_features_everywhere(shape):
  x = RANDOM.normal(size=shape).astype(np.float32)
  result = conditioning_lib.with_labels(x, LABELS, NUM_CLASSES)
  assert result.shape == (*shape[:-1], 4 + NUM_CLASSES)
  assert result.dtype == x.dtype
  np.testing.assert_array_equal(result[..., :4], x)
  for i, label in enumerate(LABELS):
    one_hot = np.arange(NUM_CLASSES) == label
    expected = np.broadcast_to(one_hot, (*shape[1:-1], NUM_CLASSES))
    np.testing.assert_array_equal(result[i, ..., 4:], expected)


class Normalised(nn.Module):
  @nn.compact
  def __call__(self, x, labels, train=True):
    norm = conditioning_lib.conditional_norm(
      labels,
      NUM_CLASSES,
      train=train,
      momentum=0.9,
      axis_name=None,
      dtype=x.dtype,
      param_dtype=x.dtype,
    )
    return norm(name='norm')(x)


def randomised(tree):
  return jax.tree.map(lambda x: RANDOM.normal(size=x.shape), tree)


@pytest.mark.parametrize('shape', [(5, 4), (5, 2, 3, 4)])
def test_a_conditional_norm_has_a_scale_and_a_shift_for_each_class(shape):
  x = RANDOM.normal(1, 3, shape)
  with jax.enable_x64(True):
    variables = Normalised().init(jax.random.key(0), x, LABELS)
    params = randomised(variables['params'])
    result, _ = Normalised().apply(
      {**variables, 'params': params}, x, LABELS, mutable=['batch_stats']
    )
  axes = tuple(range(x.ndim - 1))
  # Statistics are of the whole batch, over all classes.
  normal = (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + 1e-5)
  for i, label in enumerate(LABELS):
    expected = (
      normal[i] * params['norm_scale']['kernel'][label]
      + params['norm_shift']['kernel'][label]
    )
    np.testing.assert_allclose(result[i], expected, rtol=1e-9, atol=1e-9)


def test_a_new_conditional_norm_treats_all_classes_alike():
  x = RANDOM.normal(1, 3, (5, 4)).astype(np.float32)
  result, variables = Normalised().init_with_output(
    jax.random.key(0), x, LABELS
  )
  normal = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
  np.testing.assert_allclose(result, normal, atol=1e-5)
  assert set(variables['params']) == {'norm_scale', 'norm_shift'}


def test_a_conditional_norm_may_have_fixed_statistics():
  x = RANDOM.normal(1, 3, (5, 4))
  with jax.enable_x64(True):
    variables = Normalised().init(jax.random.key(0), x, LABELS)
    mean, variance = RANDOM.normal(size=4), RANDOM.uniform(1, 2, 4)
    variables['batch_stats']['norm'] = {'mean': mean, 'var': variance}
    result = Normalised().apply(variables, x, LABELS, train=False)
  expected = (x - mean) / np.sqrt(variance + 1e-5)
  np.testing.assert_allclose(result, expected, rtol=1e-9)


class Judge(nn.Module):
  conditioning: str = 'projection'
  has_spectral_norm: bool = False
  num_classes: int = NUM_CLASSES
  norm: str = 'none'
  norm_momentum: float = 0.9
  axis_name: str | None = None
  dtype: type = np.float64
  param_dtype: type = np.float64

  @nn.compact
  def __call__(self, features, labels):
    apply, _ = discriminating(self, train=True)
    return conditioning_lib.fit(
      self, apply, features, labels, dtype=self.dtype, param_dtype=self.dtype
    )


def test_projection_is_the_inner_product_with_the_embedded_label():
  features = RANDOM.normal(size=(5, 4))
  with jax.enable_x64(True):
    judge = Judge()
    params = judge.init(jax.random.key(0), features, LABELS)['params']
    params = randomised(params)
    result = judge.apply({'params': params}, features, LABELS)
  assert set(params['class']) == {'kernel'}
  embedded = params['class']['kernel'][LABELS]
  np.testing.assert_allclose(result, np.sum(embedded * features, axis=1))


@pytest.mark.parametrize('conditioning', ['none', 'concatenation'])
def test_without_projection_the_logit_does_not_change(conditioning):
  module = types.SimpleNamespace(conditioning=conditioning)
  assert conditioning_lib.fit(module, None, np.ones((5, 4)), None) == 0


def test_spectral_norm_bounds_the_embedding_of_labels():
  """Power iterations bring its largest singular value to 1."""
  classes = np.arange(NUM_CLASSES, dtype=np.int32)
  with jax.enable_x64(True):
    judge = Judge(has_spectral_norm=True)
    variables = judge.init(jax.random.key(0), np.ones((3, 4)), classes)
    variables['params'] = jax.tree.map(lambda x: 9 * x, variables['params'])
    for _ in range(30):
      _, updates = judge.apply(
        variables, np.ones((3, 4)), classes, mutable=['batch_stats']
      )
      variables |= updates
    # One-hot features read the embedding column by column.
    embedding = [
      judge.apply(
        variables, np.eye(4)[[i] * 3], classes, mutable=['batch_stats']
      )[0]
      for i in range(4)
    ]
  assert np.linalg.norm(embedding, 2) == pytest.approx(1, abs=1e-6)
