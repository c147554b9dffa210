"""Shapes, sizes and bounds of the networks, and the layers they are made of."""

import itertools
import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.errors import UserError
from common_flax.images import doublings
from common_flax.likelihoods import LIKELIHOODS
from common_flax.nn import layers
from common_flax.nn.activations import ACTIVATIONS
from vae_flax import config as vae_config
from vae_flax.state import init_state
from vae_flax.vae import create_vae

BATCH = 3


def create(shape, **changes):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(changes)
  return create_vae(config, shape)


def shapes(tree):
  return jax.tree.map(lambda x: x.shape, tree)


def shapes_of_params(vae):
  state = jax.eval_shape(lambda: init_state(vae, jax.random.key(0)))
  return shapes(state.params)


@pytest.mark.parametrize('name', ['conv', 'mlp'])
@pytest.mark.parametrize('size', [28, 32, 64, 128])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('likelihood', ['bernoulli', 'logistic'])
def test_networks_have_their_documented_shapes(
  name, size, channels, likelihood
):
  shape = (size, size, channels)
  vae = create(
    shape,
    **{
      'model.name': name,
      'likelihood': likelihood,
      'dataset.binarise': 'none' if likelihood == 'logistic' else 'fixed',
    },
  )

  def both(key):
    x, z = jnp.zeros((BATCH, *shape)), jnp.zeros((BATCH, vae.latent_size))
    posterior, _ = vae.encoder.init_with_output(key, x)
    outputs, _ = vae.decoder.init_with_output(key, z)
    return posterior, outputs

  posterior, outputs = jax.eval_shape(both, jax.random.key(0))
  assert shapes(posterior) == ((BATCH, 32), (BATCH, 32))
  num_outputs = LIKELIHOODS[likelihood](0.1).num_outputs
  assert outputs.shape == (BATCH, *shape, num_outputs)
  assert {x.dtype for x in (*posterior, outputs)} == {np.dtype(np.float32)}


def test_dense_networks_have_the_sizes_of_burda():
  """784-200-200-50 and back, tanh (arXiv:1509.00519, section 5)."""
  vae = create(
    (28, 28, 1),
    **{
      'model.name': 'mlp',
      'model.hidden_sizes': (200, 200),
      'model.latent_size': 50,
      'model.activation': 'tanh',
    },
  )
  layers = {
    'encoder': {
      'hidden_0': (784, 200),
      'hidden_1': (200, 200),
      'mean': (200, 50),
      'log_var': (200, 50),
    },
    'decoder': {
      'hidden_0': (50, 200),
      'hidden_1': (200, 200),
      'outputs': (200, 784),
    },
  }
  expected = {
    net: {
      name: {'kernel': size, 'bias': size[1:]} for name, size in sizes.items()
    }
    for net, sizes in layers.items()
  }
  assert shapes_of_params(vae) == expected


def test_dense_decoder_has_the_encoders_sizes_in_reverse():
  vae = create((4, 4, 1), **{'model.name': 'mlp', 'model.hidden_sizes': (7, 5)})
  params = shapes_of_params(vae)
  assert params['encoder']['hidden_0']['kernel'] == (16, 7)
  assert params['encoder']['hidden_1']['kernel'] == (7, 5)
  assert params['decoder']['hidden_0']['kernel'] == (32, 5)
  assert params['decoder']['hidden_1']['kernel'] == (5, 7)


@pytest.mark.parametrize('size', [28, 32, 64, 128])
def test_convolutions_double_their_features_down_to_a_small_square(size):
  vae = create((size, size, 3), **{'model.base_features': 8})
  params = shapes_of_params(vae)
  (start, _), count = doublings(size)
  assert start == (7 if size == 28 else 4)
  features = [3, *(8 * 2**i for i in range(count))]
  for i, pair in enumerate(itertools.pairwise(features)):
    down = params['encoder'][f'conv_{i}']
    up = params['decoder'][f'conv_{count - i}']
    assert down == {'kernel': (4, 4, *pair), 'bias': pair[1:]}
    assert up == {'kernel': (4, 4, *pair[::-1]), 'bias': pair[:1]}
  numbers = start * start * features[-1]
  assert params['encoder']['mean']['kernel'] == (numbers, 32)
  assert params['encoder']['log_var']['kernel'] == (numbers, 32)
  assert params['decoder']['project']['kernel'] == (32, numbers)


@pytest.mark.parametrize('name', ['conv', 'mlp'])
@pytest.mark.parametrize('bound', [0.5, 10.0])
def test_log_variances_are_bounded_at_any_input(name, bound):
  shape = (8, 8, 1)
  vae = create(
    shape,
    **{
      'model.name': name,
      'model.hidden_sizes': (9,),
      'model.base_features': 2,
      'model.max_log_var': bound,
    },
  )
  x = jax.random.normal(jax.random.key(1), (16, *shape))

  @jax.jit
  def encode(key):
    params = vae.encoder.init(key, x)
    factors = (1e-3, 1e4, 1e15)
    return [vae.encoder.apply(params, factor * x) for factor in factors]

  (_, small), *huge = encode(jax.random.key(0))
  assert np.abs(small).max() < 0.1 * bound
  for mean, log_var in huge:
    assert np.isfinite(mean).all()
    assert np.abs(log_var).max() <= bound
    assert log_var.max() > 0.99 * bound
    assert log_var.min() < -0.99 * bound


@pytest.mark.parametrize('name', ['conv', 'mlp'])
def test_an_images_terms_depend_on_that_image_alone(name):
  shape = (8, 8, 1)
  vae = create(
    shape,
    **{
      'model.name': name,
      'model.hidden_sizes': (9,),
      'model.base_features': 2,
    },
  )
  x = jax.random.normal(jax.random.key(1), (4, *shape))
  z = jax.random.normal(jax.random.key(2), (4, vae.latent_size))

  @jax.jit
  def both(params, x, z):
    return (
      vae.encoder.apply({'params': params['encoder']}, x),
      vae.decoder.apply({'params': params['decoder']}, z),
    )

  params = jax.jit(lambda: init_state(vae, jax.random.key(0)).params)()
  whole = both(params, x, z)
  turned = both(params, x[::-1], z[::-1])
  others = both(params, x.at[1:].mul(7), z.at[1:].mul(7))
  for a, b, c in zip(
    *map(jax.tree.leaves, (whole, turned, others)), strict=True
  ):
    np.testing.assert_allclose(b[::-1], a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(c[0], a[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_dense_networks_are_the_products_they_say(activation):
  vae = create(
    (2, 3, 1),
    **{
      'model.name': 'mlp',
      'model.hidden_sizes': (5,),
      'model.latent_size': 2,
      'model.activation': activation,
    },
  )
  x = np.random.default_rng(0).normal(size=(4, 2, 3, 1)).astype(np.float32)

  @jax.jit
  def both(key):
    params = init_state(vae, key).params
    params = jax.tree.map(lambda p: p + 0.1, params)  # biases, too
    posterior = vae.encoder.apply({'params': params['encoder']}, x)
    outputs = vae.decoder.apply({'params': params['decoder']}, posterior[0])
    return params, posterior, outputs

  results = jax.device_get(both(jax.random.key(0)))
  params, (mean, log_var), outputs = results

  def layer(net, name, x):
    return x @ params[net][name]['kernel'] + params[net][name]['bias']

  act = {
    'tanh': np.tanh,
    'relu': lambda x: np.maximum(x, 0),
    'gelu': lambda x: (
      x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    'swish': lambda x: x / (1 + np.exp(-x)),
  }[activation]
  hidden = act(layer('encoder', 'hidden_0', x.reshape(4, 6)))
  close = dict(rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(mean, layer('encoder', 'mean', hidden), **close)
  raw = layer('encoder', 'log_var', hidden)
  np.testing.assert_allclose(log_var, 10 * np.tanh(raw / 10), **close)
  expected = layer(
    'decoder', 'outputs', act(layer('decoder', 'hidden_0', mean))
  )
  np.testing.assert_allclose(
    outputs, np.reshape(expected, (4, 2, 3, 1, 1)), **close
  )


def test_means_and_log_scales_of_a_pixel_are_its_own():
  """The last axis of the convolutions is [C, P]: each channel's outputs."""
  vae = create(
    (8, 8, 3),
    **{
      'likelihood': 'logistic',
      'dataset.binarise': 'none',
      'model.base_features': 2,
    },
  )

  @jax.jit
  def decode(key):
    z = jnp.zeros((1, vae.latent_size))
    params = vae.decoder.init(key, z)['params']
    params['conv_1']['kernel'] *= 0
    params['conv_1']['bias'] = jnp.arange(6.0)
    return vae.decoder.apply({'params': params}, z)

  outputs = decode(jax.random.key(0))
  np.testing.assert_array_equal(
    outputs, np.broadcast_to(np.arange(6.0).reshape(3, 2), outputs.shape)
  )


@pytest.mark.parametrize('size', [1, 4, 7, (7, 8)])
def test_convolutions_refuse_small_sizes(size):
  config = vae_config.default().unlock()
  config.dataset.image_size = size
  with pytest.raises(UserError, match=r'config\.dataset\.image_size'):
    vae_config.check(config)
  config.model.name = 'mlp'  # takes any
  vae_config.check(config)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('model.name', 'transformer'),
    ('model.activation', 'sine'),
    ('model.latent_size', 0),
    ('model.base_features', 0),
    ('model.hidden_sizes', ()),
    ('model.hidden_sizes', (200, 0)),
    ('model.hidden_sizes', (200, 0.5)),
    ('model.max_log_var', 0.0),
    ('model.max_log_var', 100.0),
  ],
)
def test_a_wrong_field_of_the_model_is_named(field, value):
  config = vae_config.default().unlock()
  vae_config.check(config)
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=rf'^config\.{field}='):
    vae_config.check(config)


@pytest.mark.parametrize(
  ('ours', 'library'),
  [
    (layers.Conv, nn.Conv),
    (layers.TransposedConv, nn.ConvTranspose),
  ],
)
@pytest.mark.parametrize('stride', [1, 2])
def test_layers_with_a_bias_are_the_librarys(ours, library, stride):
  """Value and gradient, at parameters whose biases are not zero."""
  layers = [
    ours(6, 4, stride=stride, use_bias=True),
    library(6, (4, 4), strides=(stride, stride), use_bias=True),
  ]
  x = jax.random.normal(jax.random.key(0), (2, 4, 6, 5))

  @jax.jit
  def both(key):
    variables = [layer.init(key, x) for layer in layers]
    shared = jax.tree.map(lambda p: p + 0.1, variables[1])

    def value_and_gradients(layer):
      def loss(variables, x):
        y = layer.apply(variables, x)
        return jnp.sum(y**3), y

      return jax.value_and_grad(loss, (0, 1), has_aux=True)(shared, x)

    return variables, *map(value_and_gradients, layers)

  variables, actual, expected = both(jax.random.key(1))
  assert shapes(variables[0]) == shapes(variables[1])
  assert not np.any(variables[0]['params']['bias'])
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize('layer', [layers.Conv, layers.TransposedConv])
@pytest.mark.parametrize('use_bias', [None, False, True])
def test_layers_have_a_bias_where_asked_for(layer, use_bias):
  arguments = {} if use_bias is None else {'use_bias': use_bias}
  variables = jax.eval_shape(
    layer(6, 4, **arguments).init, jax.random.key(0), jnp.zeros((1, 4, 4, 5))
  )
  names = {'kernel', 'bias'} if use_bias else {'kernel'}
  assert set(variables['params']) == names
