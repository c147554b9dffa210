"""Residual networks against plain library convolutions."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_flax.models import resnet

RANDOM = np.random.default_rng(0)
TYPES = dict(dtype=jnp.float64, param_dtype=jnp.float64)


def randomised(module, inputs):
  """Random parameters, and the module's outputs with them."""
  with jax.enable_x64(True):
    shapes = jax.eval_shape(
      lambda: module.init(jax.random.key(0), inputs, train=True)
    )
    variables = jax.tree.map(
      lambda x: 0.3 * RANDOM.normal(size=x.shape), shapes
    )
    result, _ = jax.jit(
      lambda: module.apply(
        variables, inputs, train=True, mutable=['batch_stats']
      )
    )()
  return variables['params'], np.asarray(result)


def conv(params, x):
  layout = ('NHWC', 'HWIO', 'NHWC')
  with jax.enable_x64(True):
    y = lax.conv_general_dilated(
      x, params['kernel'], (1, 1), 'SAME', dimension_numbers=layout
    )
  return np.asarray(y) + params.get('bias', 0)


def norm(params, x):
  mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
  return (x - mean) / np.sqrt(var + 1e-5) * params['scale'] + params['bias']


def relu(x):
  return np.maximum(0, x)


def halved(x):
  return (
    x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]
  ) / 4


def test_the_generator():
  latents = RANDOM.normal(size=(3, 5))
  module = resnet.Generator((16, 16, 1), base_features=2, **TYPES)
  params, result = randomised(module, latents)
  project = params['project']
  x = (latents @ project['kernel'] + project['bias']).reshape(3, 4, 4, 4)
  for i in range(2):
    y = resnet.doubled(relu(norm(params[f'norm_{i}_a'], x)))
    y = relu(norm(params[f'norm_{i}_b'], conv(params[f'conv_{i}_a'], y)))
    y = conv(params[f'conv_{i}_b'], y)
    x = y + conv(params[f'shortcut_{i}'], resnet.doubled(x))
  x = np.tanh(conv(params['image'], relu(norm(params['norm'], x))))
  assert x.shape == (3, 16, 16, 1)
  np.testing.assert_allclose(result, x, atol=1e-9)


def test_the_discriminator():
  images = RANDOM.normal(size=(3, 16, 16, 1))
  module = resnet.Discriminator(
    (16, 16, 1), base_features=4, has_spectral_norm=False, **TYPES
  )
  params, result = randomised(module, images)
  y = conv(params['conv_0_b'], relu(conv(params['conv_0_a'], images)))
  x = halved(y + conv(params['shortcut_0'], images))
  for i in (1, 2):
    y = conv(params[f'conv_{i}_a'], relu(x))
    x = x + conv(params[f'conv_{i}_b'], relu(y))
  features = relu(x).sum(axis=(1, 2))
  logits = features @ params['logit']['kernel'] + params['logit']['bias']
  np.testing.assert_allclose(result, logits[:, 0], rtol=1e-9)


@pytest.mark.parametrize(
  ('size', 'num_halvings'), [(8, 1), (16, 1), (28, 2), (32, 2), (64, 3)]
)
def test_the_discriminator_halves_until_at_most_8_pixels_are_left(
  size, num_halvings
):
  """At least once; two more blocks follow, as in the papers at 32 pixels."""
  module = resnet.Discriminator((size, size, 3), base_features=4)
  variables = jax.eval_shape(
    lambda: module.init(
      jax.random.key(0), jnp.zeros((1, size, size, 3)), train=True
    )
  )
  names = set(variables['params'])
  assert sum(name.startswith('shortcut') for name in names) == num_halvings
  assert sum(name.startswith('conv') for name in names) == 2 * (
    num_halvings + 2
  )
  for name in names:  # every layer is normalised
    assert f'{name}_spectral' in variables['batch_stats']


def test_discriminator_has_the_papers_sizes():
  generator = resnet.Generator((32, 32, 3))
  variables = jax.eval_shape(
    lambda: generator.init(jax.random.key(0), jnp.zeros((1, 128)), train=True)
  )
  params = variables['params']
  assert params['project']['kernel'].shape == (128, 4 * 4 * 256)
  for i in range(3):
    assert params[f'conv_{i}_a']['kernel'].shape == (3, 3, 256, 256)
  assert params['image']['kernel'].shape == (3, 3, 256, 3)
