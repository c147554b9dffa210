"""Networks for points against NumPy."""

import jax
import numpy as np
import pytest

from common_flax import prng
from gan_flax import config as gan_config
from gan_flax import generation
from gan_flax.gan import create_gan
from gan_flax.models import MODELS
from gan_flax.models import points
from gan_flax.state import init_state

RANDOM = np.random.default_rng(0)


def init(module, inputs):
  with jax.enable_x64(True):
    variables = module.init(jax.random.key(0), inputs, train=True)
    variables = jax.tree.map(lambda x: RANDOM.normal(size=x.shape), variables)
    result = module.apply(
      variables, inputs, train=True, mutable=['batch_stats']
    )[0]
  return variables['params'], np.asarray(result)


def create(name, player, **options):
  types = dict(dtype=np.float64, param_dtype=np.float64)
  if player == 'generator':
    options |= {'norm': MODELS[name].generator_norm}
  return getattr(MODELS[name], player)(
    (2,), base_features=3, **types, **options
  )


def test_fourier_features_are_sines_and_cosines():
  x = np.array([[0.25, -0.5]])
  expected = [0.25, -0.5]
  for frequency in (np.pi, 2 * np.pi):
    expected += [*np.sin(frequency * x[0]), *np.cos(frequency * x[0])]
  np.testing.assert_allclose(points.waves(x, 2)[0], expected, atol=1e-6)
  np.testing.assert_array_equal(points.waves(x, 0), x)


def test_pacgan_generator():
  """Four layers of batch norm and ReLU; only the last layer has a bias."""
  latents = RANDOM.normal(size=(7, 2))
  params, result = init(create('pacgan', 'generator'), latents)
  x = latents
  for i in range(4):
    assert set(params[f'dense_{i}']) == {'kernel'}
    x = x @ params[f'dense_{i}']['kernel']
    x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
    norm = params[f'norm_{i}']
    x = np.maximum(0, x * norm['scale'] + norm['bias'])
    assert x.shape == (7, 6)  # twice the discriminator's features
  x = x @ params['point']['kernel'] + params['point']['bias']
  np.testing.assert_allclose(result, x, rtol=1e-9)


def test_pacgan_discriminator():
  """Three maxout layers of five pieces."""
  packs = RANDOM.normal(size=(7, 4))
  params, result = init(create('pacgan', 'discriminator'), packs)
  x = packs
  for i in range(3):
    layer = params[f'dense_{i}']
    x = (x @ layer['kernel'] + layer['bias']).reshape(7, 3, 5).max(axis=2)
  x = x @ params['logit']['kernel'] + params['logit']['bias']
  np.testing.assert_allclose(result, x[:, 0], rtol=1e-9)


def test_pacgan_discriminator_has_the_papers_sizes():
  shapes = jax.eval_shape(
    lambda: (
      MODELS['pacgan']
      .discriminator((2,), base_features=200)
      .init(jax.random.key(0), np.zeros((1, 2)), train=True)
    )
  )['params']
  assert shapes['dense_1']['kernel'].shape == (200, 1000)


def test_mlp_generator():
  latents = RANDOM.normal(size=(7, 2))
  params, result = init(create('mlp', 'generator', extent=4.0), latents)
  x = latents
  for i in range(3):
    layer = params[f'dense_{i}']
    x = np.maximum(0, x @ layer['kernel'] + layer['bias'])
  x = 4 * (x @ params['point']['kernel'] + params['point']['bias'])
  np.testing.assert_allclose(result, x, rtol=1e-9)


def test_mlp_discriminator():
  inputs = RANDOM.normal(size=(7, 2))
  params, result = init(create('mlp', 'discriminator', extent=4.0), inputs)
  x = np.asarray(points.waves(inputs / 4, 3))
  assert x.shape == (7, 14)
  for i in range(3):
    layer = params[f'dense_{i}']
    x = x @ layer['kernel'] + layer['bias']
    x = np.where(x > 0, x, 0.2 * x)
  x = x @ params['logit']['kernel'] + params['logit']['bias']
  np.testing.assert_allclose(result, x[:, 0], rtol=1e-5)


@pytest.mark.parametrize('name', ['mlp', 'pacgan'])
@pytest.mark.parametrize('norm', ['layer', 'group', 'batch'])
def test_norms_and_minibatch_deviation_work_on_points(name, norm):
  module = create(
    name,
    'discriminator',
    norm=norm,
    has_spectral_norm=True,
    has_minibatch_deviation=True,
  )
  inputs = RANDOM.normal(size=(8, 2))
  with jax.enable_x64(True):
    result, variables = module.init_with_output(
      jax.random.key(0), inputs, train=True
    )
  assert result.shape == (8,)
  assert np.isfinite(result).all()
  assert variables['params']['logit']['kernel'].shape == (4, 1)


@pytest.mark.slow
@pytest.mark.parametrize('packing', [1, 2])
def test_discriminator_output_does_not_depend_on_other_points(packing):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'dataset.name': 'ring',
      'model.name': 'mlp',
      'model.base_features': 3,
      'model.minibatch_deviation': True,
      'model.packing': packing,
    }
  )
  gan = create_gan(config, (2,))
  net = init_state(gan, prng.root_key(0)).discriminator
  places = RANDOM.normal(size=(8, 2)).astype(np.float32)
  together = generation.discriminator_output(gan, net, places)
  assert together.shape == (8,)
  for place, opinion in zip(places, together, strict=True):
    alone = generation.discriminator_output(gan, net, place[None])
    np.testing.assert_allclose(alone, opinion[None], rtol=1e-5)
