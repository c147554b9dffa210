"""The mixture of discretised logistics against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.special import softmax

from common_flax.likelihoods import bits_per_dim
from common_flax.likelihoods import LIKELIHOODS
from vae_flax import config as vae_config
from vae_flax import inference
from vae_flax.state import init_state
from vae_flax.vae import create_vae

BYTES = np.arange(256) / 255
NUM_COMPONENTS = 3


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


def create(num_channels, num_components=NUM_COMPONENTS):
  return LIKELIHOODS['logistic_mixture'](0.1, num_components, num_channels)


def drawn_outputs(num_channels, *size, num_components=NUM_COMPONENTS, seed=0):
  """Outputs [*size, C, P] whose means are mostly within the range of x."""
  random = np.random.default_rng(seed)
  num_slots = 3 + num_channels // 2
  slots = random.normal(size=(*size, num_channels, num_slots, num_components))
  slots[..., 0, :] = random.uniform(-0.1, 1.1, slots[..., 0, :].shape)
  return slots.reshape(*size, num_channels, -1)


class Pixel:
  """A pixel's mixture, written down as in the paper."""

  def __init__(self, outputs):
    """Takes the outputs [C, P] of one pixel, C at most 3."""
    slots = outputs.reshape(len(outputs), -1, NUM_COMPONENTS)
    self.means = slots[:, 0]
    self.scales = np.exp(-3 + 4 * np.tanh(slots[:, 1] / 4))
    self.weights = softmax(slots[:, 2].mean(axis=0))
    if len(outputs) > 1:
      self.green_red = np.tanh(slots[0, 3])
    if len(outputs) > 2:
      self.blue_red, self.blue_green = np.tanh(slots[1:, 3])

  def component_means(self, x):
    """The means [K] of each channel, given the earlier ones."""
    means = [*self.means]
    if len(means) > 1:
      means[1] = means[1] + self.green_red * (x[0] - 0.5)
    if len(means) > 2:
      means[2] = means[2] + self.blue_red * (x[0] - 0.5)
      means[2] = means[2] + self.blue_green * (x[1] - 0.5)
    return means

  def mass(self, *x):
    """The mass of the first channels, as many as there are values."""
    joint = self.weights.copy()
    for channel, value in enumerate(x):
      mean = self.component_means(np.pad(x, (0, 3)))[channel]
      below, above = value - 1 / 510, value + 1 / 510
      below = -np.inf if value == 0 else (below - mean) / self.scales[channel]
      above = np.inf if value == 1 else (above - mean) / self.scales[channel]
      # In the upper tail the difference of sigmoids cancels.
      joint *= np.where(
        np.asarray(below) > 0,
        expit(-below) - expit(-above),
        expit(above) - expit(below),
      )
    return joint.sum()


@pytest.mark.parametrize('num_channels', [1, 2, 3])
def test_it_is_the_mixture_of_the_paper(num_channels):
  outputs = drawn_outputs(num_channels, 4, 2, 3, 2)
  random = np.random.default_rng(1)
  x = random.integers(0, 256, (4, 1, 3, 2, num_channels)) / 255
  x[0, 0, 0, 0] = 0
  x[0, 0, 0, 1] = 1
  likelihood = create(num_channels)
  assert outputs.shape[-1] == likelihood.num_outputs
  expected = np.zeros((4, 2))
  wide = np.broadcast_to(x, (*outputs.shape[:-1],))
  for index in np.ndindex(4, 2, 3, 2):
    mass = Pixel(outputs[index]).mass(*wide[index])
    expected[index[:2]] += np.log(mass)
  actual = jax.jit(likelihood.log_prob)(outputs, x)
  np.testing.assert_allclose(actual, expected, rtol=1e-9)


@jax.jit
def masses_of_one_pixel(outputs, x):
  """The masses [N] of the values [N, C] of one pixel with outputs [C, P]."""
  repeated = jnp.broadcast_to(
    outputs[None, None, None], (len(x), 1, 1, *outputs.shape)
  )
  log_prob = create(outputs.shape[0]).log_prob
  return jnp.exp(log_prob(repeated, x[:, None, None]))


def test_the_masses_of_a_grey_pixel_sum_to_one():
  for outputs in drawn_outputs(1, 20):
    masses = masses_of_one_pixel(outputs, BYTES[:, None])
    np.testing.assert_allclose(masses.sum(), 1, rtol=1e-12)


def test_the_joint_masses_of_two_channels_sum_to_one():
  outputs = drawn_outputs(2)
  pairs = np.stack(np.meshgrid(BYTES, BYTES), axis=-1).reshape(-1, 2)
  masses = masses_of_one_pixel(outputs, pairs)
  np.testing.assert_allclose(masses.sum(), 1, rtol=1e-12)


def test_the_masses_of_a_colour_pixel_sum_to_one_channel_by_channel():
  """Summed over blue they are those of red and green, and so on."""
  for seed in range(3):
    outputs = drawn_outputs(3, seed=seed)
    pixel = Pixel(outputs)
    for red, green in BYTES[[[0, 255], [255, 9], [100, 0], [37, 201]]]:
      x = np.stack([np.full(256, red), np.full(256, green), BYTES], axis=1)
      over_blue = masses_of_one_pixel(outputs, x).sum()
      np.testing.assert_allclose(over_blue, pixel.mass(red, green), rtol=1e-8)
      over_green = sum(pixel.mass(red, green) for green in BYTES)
      np.testing.assert_allclose(over_green, pixel.mass(red), rtol=1e-8)
    over_red = sum(pixel.mass(red) for red in BYTES)
    np.testing.assert_allclose(over_red, 1, rtol=1e-8)


@pytest.mark.parametrize('num_channels', [1, 3, 4])
def test_one_component_without_coefficients_is_the_logistic(num_channels):
  likelihood = create(num_channels, num_components=1)
  outputs = drawn_outputs(num_channels, 5, 2, 3, num_components=1)
  outputs[..., 3:] = 0
  plain = LIKELIHOODS['logistic'](0.1)
  x = np.random.default_rng(2).integers(0, 256, outputs.shape[:-1]) / 255
  np.testing.assert_allclose(
    jax.jit(likelihood.log_prob)(outputs, x),
    plain.log_prob(outputs[..., :2], x),
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    likelihood.mean(outputs), plain.mean(outputs[..., :2]), rtol=1e-12
  )


def test_a_uniform_mixture_has_eight_bits_per_dimension():
  """256 narrow components, one at each byte, and weights that even them out."""
  num = 256
  log_scales = np.full(num, -7.0)
  slots = np.stack([BYTES, np.full(num, -1e3), np.zeros(num)])
  scaled = np.exp(-log_scales)[:, None]
  ends = np.concatenate([[-np.inf], (BYTES[1:] + BYTES[:-1]) / 2, [np.inf]])
  masses = np.diff(expit(scaled * (ends[None] - BYTES[:, None])), axis=1)
  weights = np.linalg.solve(masses.T, np.full(num, 1 / 256))
  slots[2] = np.log(weights) + 7  # weights need no norm
  outputs = np.tile(slots.reshape(1, 1, 1, 1, -1), (16, 4, 4, 1, 1))
  x = BYTES.reshape(16, 4, 4, 1)
  nats = -jax.jit(create(1, num).log_prob)(outputs, x)
  for each in nats:
    bits = bits_per_dim(float(each), 16, create(1, num))
    assert bits == pytest.approx(8, abs=1e-9)


@pytest.mark.parametrize('num_channels', [1, 3])
def test_values_and_gradients_are_finite_at_extreme_outputs(num_channels):
  likelihood = create(num_channels)
  random = np.random.default_rng(3)
  extremes = np.float32([-1e6, -1e4, -88, -1, 0, 1, 88, 1e4, 1e6])
  shape = (200, 1, 1, num_channels)
  outputs = random.choice(extremes, (*shape, likelihood.num_outputs))
  function = jax.jit(
    jax.value_and_grad(lambda y, x: jnp.sum(likelihood.log_prob(y, x)))
  )
  for x in (0.0, 1 / 255, 0.5, 1.0):
    value, gradient = function(outputs, np.full(shape, x, np.float32))
    assert value.dtype == gradient.dtype == np.float32
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_the_picture_is_the_expected_pixel():
  outputs = drawn_outputs(3, 6)
  outputs[0] *= 100
  actual = create(3).mean(outputs[:, None, None])[:, 0, 0]
  assert ((actual >= 0) & (actual <= 1)).all()
  for each, drawn in zip(outputs, actual, strict=True):
    pixel = Pixel(each)
    x = np.zeros((3, NUM_COMPONENTS))
    for channel in range(3):  # each takes those before it
      x[channel] = np.clip(pixel.component_means(x)[channel], 0, 1)
    np.testing.assert_allclose(drawn, x @ pixel.weights, rtol=1e-12)


@pytest.mark.parametrize('num_channels', [1, 3])
def test_its_terms_are_in_single_precision_under_bfloat16(num_channels):
  config = vae_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': 'mlp',
      'likelihood': 'logistic_mixture',
      'likelihood_components': 2,
      'dataset.binarise': 'none',
      'compute_dtype': 'bfloat16',
    }
  )
  vae = create_vae(config, (2, 2, num_channels))
  x = jnp.zeros((5, 2, 2, num_channels), jnp.float32)
  z = jnp.zeros((5, 1, vae.latent_size), jnp.float32)

  def outputs():
    params = init_state(vae, jax.random.key(0)).params
    decoded = inference.decode(vae, params, z)
    return decoded, inference.reconstruction(vae, params, x, z)

  decoded, terms = jax.eval_shape(outputs)
  per_value = 2 * (3 + num_channels // 2)
  assert decoded.shape == (5, 1, 2, 2, num_channels, per_value)
  assert decoded.dtype == terms.dtype == jnp.float32
  inside = jax.make_jaxpr(vae.likelihood.log_prob)(decoded, x[:, None])
  assert 'bf16' not in str(inside)
