"""R3GAN's networks: their functions by hand, and their initial statistics."""

import functools

from conftest import recipe
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import prng
from common_flax.nn import resampling
from gan_flax.models import r3gan
from gan_flax.sample import load
from gan_flax.train import train

RANDOM = np.random.default_rng(0)
SIZES = dict(base_features=8, group_size=4)


def initialised(module, inputs, labels=None):
  init = functools.partial(module.init, train=True)
  return jax.jit(init)(jax.random.key(0), inputs, labels)['params']


def shapes(module, inputs):
  init = functools.partial(module.init, train=True)
  return jax.eval_shape(init, jax.random.key(0), inputs)['params']


def dilated(x, axis):
  """One axis with zeros between pixels, two before them and two behind."""
  shape = list(x.shape)
  shape[axis] = 2 * shape[axis] + 4
  result = np.zeros(shape)
  places = [slice(None)] * x.ndim
  places[axis] = slice(2, -2, 2)
  result[tuple(places)] = x
  return result


def filtered(x, axis):
  """The sum of four neighbours with the weights (1, 3, 3, 1)."""
  size = x.shape[axis] - 3
  return sum(
    weight * x.take(range(i, i + size), axis)
    for i, weight in enumerate((1, 3, 3, 1))
  )


def test_upsampling_filters_an_image_with_zeros_between_its_pixels():
  x = RANDOM.normal(size=(2, 4, 7, 3))
  expected = x
  for axis in (1, 2):
    expected = filtered(dilated(expected, axis), axis) / 4
    expected = expected.take(range(expected.shape[axis] - 1), axis)
  np.testing.assert_allclose(
    resampling.upsampled(jnp.array(x)), expected, atol=1e-6
  )


def test_downsampling_is_a_quarter_of_the_adjoint():
  x = RANDOM.normal(size=(2, 8, 14, 3)).astype(np.float32)
  small = np.zeros((2, 4, 7, 3), np.float32)
  (adjoint,) = jax.linear_transpose(resampling.upsampled, small)(jnp.array(x))
  np.testing.assert_allclose(resampling.downsampled(x), adjoint / 4, atol=1e-6)


def test_resampling_keeps_a_constant_away_from_the_border():
  x = jnp.ones((1, 8, 8, 1))
  for resampled in (resampling.upsampled(x), resampling.downsampled(x)):
    np.testing.assert_allclose(resampled[:, 1:-1, 1:-1], 1, rtol=1e-6)


def test_the_widths_are_the_papers():
  assert r3gan.widths(32, 768) == (768,) * 4
  assert r3gan.widths(64, 768) == (768,) * 4 + (384,)
  assert r3gan.widths(256, 768) == (768,) * 4 + (384, 192, 96)
  assert r3gan.widths(28, 64) == (64,) * 3
  assert r3gan.widths(56, 64) == (64,) * 4
  assert r3gan.widths(224, 64) == (64,) * 4 + (32, 16)
  with pytest.raises(ValueError, match='divisible by 4'):
    r3gan.widths(128, 6)


def test_the_networks_of_the_paper():
  generator = shapes(r3gan.Generator((256, 256, 3)), jnp.zeros((1, 64)))
  assert generator['basis'].shape == (4, 4, 768)
  assert generator['block_0_1']['expand']['kernel'].shape == (768, 1536)
  # 96 groups of 16 features, and 12 at the finest stage
  assert generator['block_0_1']['conv']['kernel'].shape == (3, 3, 16, 1536)
  assert generator['block_6_0']['conv']['kernel'].shape == (3, 3, 16, 192)
  assert generator['narrow_4']['kernel'].shape == (768, 384)
  images = jnp.zeros((1, 256, 256, 3))
  discriminator = shapes(r3gan.Discriminator((256, 256, 3)), images)
  assert discriminator['features']['kernel'].shape == (3, 96)
  assert discriminator['widen_6']['kernel'].shape == (96, 192)
  blocks = {name for name in discriminator if name.startswith('block')}
  assert blocks == {f'block_{i}_{j}' for i in range(7) for j in range(2)}
  assert blocks == {name for name in generator if name.startswith('block')}
  for params in (generator, discriminator):
    assert not [name for name in params if 'norm' in name]


@pytest.mark.parametrize('size', [28, 32])
def test_a_generator_draws_images_of_its_size(size):
  module = r3gan.Generator((size, size, 1), **SIZES)
  latents = jnp.zeros((2, 5))
  variables = jax.eval_shape(
    lambda: module.init(jax.random.key(0), latents, train=True)
  )
  images = jax.eval_shape(
    functools.partial(module.apply, train=True), variables, latents
  )
  assert images.shape == (2, size, size, 1)


def test_branches_add_nothing_at_the_start():
  block = r3gan.Block(num_blocks=4, group_size=4)
  x = jnp.array(RANDOM.normal(size=(2, 4, 4, 8)), jnp.float32)
  params = initialised_block(block, x)
  np.testing.assert_array_equal(block.apply({'params': params}, x), x)
  gradient = jax.grad(
    lambda params: jnp.sum(block.apply({'params': params}, x) ** 2)
  )(params)
  assert np.abs(gradient['project']['kernel']).max() > 0


def initialised_block(block, x):
  return block.init(jax.random.key(0), x)['params']


def test_weights_shrink_with_the_number_of_blocks():
  """Each of two layers by L^(-1/4), so a branch by L^(-1/2)."""
  x = jnp.zeros((1, 4, 4, 64))
  for num_blocks in (1, 16):
    params = initialised_block(r3gan.Block(num_blocks, 16), x)
    gain = np.sqrt(2 / 1.04) * num_blocks**-0.25
    for name, fan_in in (('expand', 64), ('conv', 9 * 16)):
      deviation = params[name]['kernel'].std() * np.sqrt(fan_in)
      np.testing.assert_allclose(deviation, gain, rtol=0.05)


def test_layers_keep_the_variance_at_the_start():
  size = dict(base_features=64, group_size=16)
  latents = RANDOM.normal(size=(64, 32)).astype(np.float32)
  generator = r3gan.Generator((8, 8, 3), **size)
  params = initialised(generator, latents)
  assert params['basis'].std() == pytest.approx(1, abs=0.1)
  weights = latents @ params['weights']['kernel']
  assert weights.std() == pytest.approx(1, abs=0.1)
  images = generator.apply({'params': params}, latents, train=True)
  # Interpolating independent pixels averages them: (1 + 9) / 16 in each axis.
  interior = images[:, 1:-1, 1:-1]
  assert interior.std() == pytest.approx(10 / 16, abs=0.15)
  x = RANDOM.normal(size=(64, 8, 8, 3)).astype(np.float32)
  discriminator = r3gan.Discriminator((8, 8, 3), **size)
  params = initialised(discriminator, x)
  logits = discriminator.apply({'params': params}, x, train=True)
  assert 0.05 < logits.std() < 1


def test_a_projected_logit_starts_small():
  x = RANDOM.normal(size=(8, 8, 8, 1)).astype(np.float32)
  labels = jnp.arange(8) % 5
  module = r3gan.Discriminator(
    (8, 8, 1), conditioning='projection', num_classes=5, **SIZES
  )
  params = initialised(module, x, labels)
  assert params['class']['kernel'].shape == (5, 8)
  logits = module.apply({'params': params}, x, labels, train=True)
  others = module.apply({'params': params}, x, (labels + 1) % 5, train=True)
  assert logits.shape == (8,)
  assert not np.allclose(logits, others)


@pytest.mark.slow
def test_a_run_trains_and_its_workdir_draws(tmp_path):
  assert train(recipe('r3gan.py', 'smoke'), tmp_path) is None
  images = np.concatenate(list(load(tmp_path).chunks(prng.root_key(0), 5)))
  assert images.shape == (5, 16, 16, 1) and images.std() > 0
