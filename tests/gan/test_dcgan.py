"""DCGAN: shapes, parameters and placement of batch norm."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import images
from gan_flax.models import dcgan


def shapes(module, inputs):
  variables = jax.eval_shape(
    lambda: module.init(jax.random.key(0), inputs, train=True)
  )
  return jax.tree.map(lambda x: x.shape, variables)


def init(module, inputs):
  return jax.jit(lambda: module.init(jax.random.key(0), inputs, train=True))()


@functools.partial(jax.jit, static_argnums=0)
def apply(module, variables, inputs):
  return module.apply(variables, inputs, train=True, mutable=True)


@pytest.mark.parametrize('size', [8, 14, 16, 28, 32, 64, 112, 128])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('kernel_size', [4, 5])
def test_shapes_of_generator_and_discriminator_match(
  size, channels, kernel_size
):
  arguments = dict(
    image_shape=(size, size, channels),
    base_features=2,
    kernel_size=kernel_size,
  )
  generator = dcgan.Generator(**arguments)
  discriminator = dcgan.Discriminator(**arguments)

  def play():
    latents = jnp.zeros((2, 5))
    images, _ = generator.init_with_output(
      jax.random.key(0), latents, train=True
    )
    logits, _ = discriminator.init_with_output(
      jax.random.key(0), images, train=True
    )
    return images, logits

  images, logits = jax.eval_shape(play)
  assert images.shape == (2, size, size, channels)
  assert logits.shape == (2,)


def test_a_grid_draws_the_centre_of_a_larger_image():
  latents = jax.random.normal(jax.random.key(1), (3, 5))
  whole, part = (
    dcgan.Generator((size, size, 1), 4, grid_size=16) for size in (16, 11)
  )
  variables = init(whole, latents)
  full, _ = apply(whole, variables, latents)
  cut, _ = apply(part, variables, latents)
  np.testing.assert_array_equal(cut, full[:, 2:13, 2:13])


def test_a_grid_shows_images_on_a_black_border():
  image = jax.random.uniform(jax.random.key(1), (3, 11, 11, 1), minval=-1)
  padded = np.full((3, 16, 16, 1), -1, np.float32)
  padded[:, 2:13, 2:13] = image
  whole, part = (
    dcgan.Discriminator((size, size, 1), 4, grid_size=16) for size in (16, 11)
  )
  variables = init(whole, padded)
  np.testing.assert_array_equal(
    apply(part, variables, image)[0], apply(whole, variables, padded)[0]
  )


@pytest.mark.parametrize('size', [1, 4, 7, 9, 30, 33, 100, (60, 100), (8, 9)])
def test_other_sizes_are_refused(size):
  with pytest.raises(ValueError, match='28, 32, 64 or 128'):
    images.doublings(size)


def test_generator_has_the_sizes_of_the_reference_implementation():
  # Widths and kernels of PyTorch's example at 64x64x3. Its 4x4 transposed
  # convolution of one pixel is our projection.
  module = dcgan.Generator((64, 64, 3), base_features=64)
  tree = shapes(module, jnp.zeros((1, 100)))
  params = tree['params']
  total = sum(
    np.prod(shape)
    for shape in jax.tree.leaves(
      params, is_leaf=lambda node: isinstance(node, tuple)
    )
  )
  projection, norm_0 = 100 * 16 * 512, 2 * 512
  rest = 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
  norms = 2 * (256 + 128 + 64)
  assert total == projection + norm_0 + rest + norms == 3_576_704


def test_discriminator_has_the_sizes_of_the_reference_implementation():
  module = dcgan.Discriminator((64, 64, 3), base_features=64)
  tree = shapes(module, jnp.zeros((1, 64, 64, 3)))
  total = sum(
    np.prod(shape)
    for shape in jax.tree.leaves(
      tree['params'], is_leaf=lambda node: isinstance(node, tuple)
    )
  )
  assert total == 2_765_568


def test_batch_norm_is_everywhere_except_at_the_pixels():
  image = jnp.zeros((2, 32, 32, 1))
  generator = shapes(dcgan.Generator((32, 32, 1), 4), jnp.zeros((2, 5)))
  discriminator = shapes(dcgan.Discriminator((32, 32, 1), 4), image)
  assert set(generator['batch_stats']) == {'norm_0', 'norm_1', 'norm_2'}
  assert 'conv_3' in generator['params']
  assert set(discriminator['batch_stats']) == {'norm_1', 'norm_2'}
  assert 'conv_0' in discriminator['params']


def test_initial_weights_and_scales():
  module = dcgan.Generator((32, 32, 1), base_features=64)
  params = init(module, jnp.zeros((1, 100)))['params']
  for name in ('project', 'conv_1', 'conv_2'):
    kernel = np.asarray(params[name]['kernel'])
    assert abs(kernel.mean()) < 1e-3
    assert kernel.std() == pytest.approx(0.02, rel=0.02)
  scales = np.asarray(params['norm_0']['scale'])
  assert scales.mean() == pytest.approx(1, abs=5e-3)
  assert scales.std() == pytest.approx(0.02, rel=0.2)
  assert not np.any(params['norm_0']['bias'])


def plain_generator(params, latents, image_shape):
  """The same network, built of library layers."""
  (start, _), count = images.doublings(image_shape[0])

  def norm(x, name):
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    scaled = (x - mean[None, None, None]) / jnp.sqrt(
      var[None, None, None] + 1e-5
    )
    weights = params[name]
    return (
      scaled * weights['scale'][None, None, None]
      + weights['bias'][None, None, None]
    )

  x = latents @ params['project']['kernel']
  x = x.reshape(len(latents), start, start, -1)
  x = nn.relu(norm(x, 'norm_0'))
  for i in range(1, count + 1):
    weights = params[f'conv_{i}']
    layer = nn.ConvTranspose(
      weights['kernel'].shape[-1], (4, 4), strides=(2, 2), use_bias=False
    )
    x = layer.apply({'params': weights}, x)
    if i < count:
      x = nn.relu(norm(x, f'norm_{i}'))
  return jnp.tanh(x)


def test_generator_matches_the_same_network_of_library_layers():
  with jax.enable_x64(True):
    module = dcgan.Generator(
      (16, 16, 2), base_features=3, dtype=jnp.float64, param_dtype=jnp.float64
    )
    latents = jax.random.normal(jax.random.key(0), (5, 7), jnp.float64)
    variables = init(module, latents)
    # Large enough to reach every nonlinearity.
    params = jax.tree.map(lambda x: 20 * x, variables['params'])
    actual, _ = apply(module, {**variables, 'params': params}, latents)
    expected = jax.jit(plain_generator, static_argnums=2)(
      params, latents, (16, 16, 2)
    )
    assert np.asarray(expected).std() > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_bfloat16_keeps_parameters_statistics_and_results_in_float32():
  module = dcgan.Discriminator((16, 16, 1), 4, dtype=jnp.bfloat16)
  images = jax.random.normal(jax.random.key(0), (8, 16, 16, 1))
  variables = init(module, images)
  logits, _ = apply(module, variables, images)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  assert logits.dtype == jnp.float32
  full = dcgan.Discriminator((16, 16, 1), 4)
  expected, _ = apply(full, variables, images)
  assert not np.array_equal(logits, expected)  # computed in bfloat16
  np.testing.assert_allclose(logits, expected, atol=0.02)
