"""What is drawn of images: its distribution, its keys, its shares."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.distributed.sharding import BatchAxis
from common_flax.likelihoods import observations

NUM_DEVICES = 8
ALL = {
  'binarise': observations.binarise,
  'threshold': observations.threshold,
  'dequantise': observations.dequantise,
  'scale': observations.scale,
}
DRAWN = ('binarise', 'dequantise')
binarise = jax.jit(observations.binarise)
dequantise = jax.jit(observations.dequantise)


def ramps(num):
  """Each grey once an image, uint8 [num, 16, 16, 1]."""
  return np.tile(
    np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), (num, 1, 1, 1)
  )


@pytest.fixture(scope='module')
def images():
  random = np.random.default_rng(0)
  return random.integers(0, 256, (16, 4, 3, 2), np.uint8)


def frequencies_are_right(ones, num):
  """Of 256 greys, [256] counts among num draws each."""
  p = np.arange(256) / 255
  assert ones[0] == 0
  assert ones[255] == num
  deviations = (ones - num * p)[1:-1] / np.sqrt(num * p * (1 - p))[1:-1]
  assert np.abs(deviations).max() < 5
  # And all together: a chi-square of 254 degrees.
  assert abs(np.sum(deviations**2) - 254) < 5 * np.sqrt(2 * 254)


def test_binary_pixels_are_one_as_often_as_their_grey_says():
  num = 4096
  x = np.asarray(binarise(jax.random.key(0), ramps(num)))
  assert set(np.unique(x)) == {0, 1}
  frequencies_are_right(x.sum(axis=0).ravel(), num)


def test_fixed_pixels_are_one_as_often_as_their_grey_says():
  num = 4096
  fixed = observations.fix(ramps(num), seed=3)
  frequencies_are_right((fixed == 255).sum(axis=0).ravel(), num)


@pytest.mark.parametrize('draw', DRAWN)
def test_pixels_images_and_keys_are_drawn_by_themselves(draw):
  grey = np.full((500, 3, 3, 1), 127, np.uint8)
  draw = {'binarise': binarise, 'dequantise': dequantise}[draw]
  draws = [
    np.asarray(draw(key, grey)).reshape(500, 9)
    for key in jax.random.split(jax.random.key(0))
  ]
  pixels = np.concatenate(draws, axis=1)  # [500, 18]
  correlation = np.corrcoef(pixels.T) - np.eye(18)
  assert np.abs(correlation).max() < 5 / np.sqrt(500)
  neighbours = np.corrcoef(draws[0][1:].ravel(), draws[0][:-1].ravel())[0, 1]
  assert abs(neighbours) < 5 / np.sqrt(500 * 9)


@pytest.mark.parametrize('name', ALL)
def test_only_what_draws_depends_on_its_key(name, images):
  observe = jax.jit(ALL[name])
  first, second = jax.random.split(jax.random.key(0))
  x = observe(first, images)
  np.testing.assert_array_equal(x, observe(first, images))
  assert np.array_equal(x, observe(second, images)) == (name not in DRAWN)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('parallelism', ['pmap', 'shard_map'])
def test_shares_of_many_devices_are_those_of_one_draw(
  name, parallelism, images
):
  key = jax.random.key(0)
  whole = ALL[name](key, jnp.asarray(images))
  observe = functools.partial(ALL[name], axis=BatchAxis('data'))
  if parallelism == 'pmap':
    shares = jax.pmap(observe, axis_name='data', in_axes=(None, 0))(
      key, images.reshape(NUM_DEVICES, -1, *images.shape[1:])
    )
    split = shares.reshape(whole.shape)
  else:
    mesh = jax.make_mesh(
      (NUM_DEVICES,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    spec = jax.sharding.PartitionSpec
    split = jax.jit(
      jax.shard_map(
        observe,
        mesh=mesh,
        in_specs=(spec(), spec('data')),
        out_specs=spec('data'),
      )
    )(key, images)
  np.testing.assert_array_equal(split, whole)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.float64])
def test_x_has_the_type_and_shape_asked_for(name, dtype, images):
  with jax.enable_x64(True):
    x = jax.eval_shape(
      functools.partial(ALL[name], dtype=dtype), jax.random.key(0), images
    )
    assert (x.shape, x.dtype) == (images.shape, dtype)


def test_threshold_is_at_one_half():
  x = observations.threshold(jax.random.key(0), jnp.asarray(ramps(1)))
  expected = np.arange(256) / 255 > 0.5
  np.testing.assert_array_equal(np.ravel(x), expected)


def test_scaled_bytes_reach_from_zero_to_one():
  x = np.ravel(observations.scale(jax.random.key(0), jnp.asarray(ramps(1))))
  np.testing.assert_allclose(x, np.arange(256) / 255, rtol=1e-6)
  assert x[0] == 0


def test_dequantised_values_are_uniform_within_their_byte():
  num = 400
  images = ramps(num)
  x = np.asarray(dequantise(jax.random.key(0), images), np.float64)
  u = x * 256 - images
  assert u.min() >= 0
  assert u.max() <= 1
  counts, _ = np.histogram(u, 20, (0, 1))
  expected = u.size / 20
  squares = np.sum((counts - expected) ** 2 / expected)
  assert abs(squares - 19) < 5 * np.sqrt(2 * 19)
  of_each = u.mean(axis=0).ravel()
  assert np.abs(of_each - 0.5).max() < 5 / np.sqrt(12 * num)


def test_images_are_fixed_by_their_seed_and_taken_as_they_are():
  images = ramps(4)
  before = images.copy()
  fixed = observations.fix(images, seed=5)
  np.testing.assert_array_equal(images, before)
  assert fixed.dtype == np.uint8
  assert set(np.unique(fixed)) == {0, 255}
  np.testing.assert_array_equal(fixed, observations.fix(images, seed=5))
  assert not np.array_equal(fixed, observations.fix(images, seed=6))
  assert not np.array_equal(fixed[0], fixed[1])
  # The first images of a set do not depend on how many follow.
  np.testing.assert_array_equal(fixed[:2], observations.fix(images[:2], seed=5))
  key, greys = jax.random.key(0), jnp.asarray(fixed)
  for observe in (observations.threshold, observations.binarise):
    np.testing.assert_array_equal(observe(key, greys), fixed == 255)


@pytest.mark.parametrize('shape', [(2, 1, 1, 1), (3, 3, 3, 1), (2, 5, 3, 3)])
def test_images_of_any_size_are_fixed(shape):
  white, black = np.full(shape, 255, np.uint8), np.zeros(shape, np.uint8)
  np.testing.assert_array_equal(observations.fix(white, 0), white)
  np.testing.assert_array_equal(observations.fix(black, 0), black)


def test_a_fixed_draw_is_part_of_every_result():
  """Its bits stay those that reported numbers were measured on."""
  grey = np.full((2, 3, 3, 1), 127, np.uint8)
  fixed = observations.fix(grey, seed=0) // 255
  assert fixed.ravel().tolist() == PINNED


PINNED = [0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize('name', DRAWN)
def test_a_draw_consumes_its_key_once(name, images, monkeypatch):
  # The checker does not see through keys that are wrapped anew.
  monkeypatch.setattr(observations, 'unrolled', lambda key: key)
  with jax.debug_key_reuse(True):
    key = jax.random.key(0)
    observe = functools.partial(ALL[name], images=jnp.asarray(images))
    jax.jit(observe)(key)
    with pytest.raises(jax.errors.KeyReuseError):
      jax.jit(lambda key: observe(key) + jax.random.normal(key))(key)
