"""Images of any height and width: networks, steps and likelihoods."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import images
from common_flax import prng
from common_flax.cli import commands
from common_flax.errors import UserError
from common_flax.metrics import classifier
from common_flax.metrics import random_network
from common_flax.metrics import resizing
from common_flax.workdir import stored_config
from gan_flax import config as gan_config
from gan_flax import steps
from gan_flax.gan import create_gan
from gan_flax.models import r3gan
from gan_flax.state import init_state
from gan_flax.watch import measures
from vae_flax import config as vae_config
from vae_flax import inference
from vae_flax import state as vae_state
from vae_flax import steps as vae_steps
from vae_flax.vae import create_vae

SIZES = [8, 9, 13, (48, 24), (24, 48), 100]
RECIPE = 'configs/dcgan.py:smoke'


def configured(config, size, **changes):
  config.unlock()
  config.dataset.image_size = size
  config.update_from_flattened_dict(changes)
  return config.lock()


def gan_of(name, size, **changes):
  fields = {'model.name': name, 'model.base_features': 8}
  if name == 'r3gan':
    fields |= {'model.group_size': 8, 'model.blocks_per_stage': 1}
    fields |= {'loss.name': 'relativistic', 'penalty.r1': 1.0}
    fields |= {'penalty.r2': 1.0}
  elif name == 'resnet':
    fields |= {'model.discriminator_norm': 'none', 'model.spectral_norm': True}
  config = configured(gan_config.default(), size, **fields, **changes)
  gan_config.check(config)
  return create_gan(config, (*images.sides(size), 3))


def vae_of(name, size, channels=3):
  fields = {'model.name': name, 'model.base_features': 4}
  config = configured(vae_config.default(), size, **fields)
  vae_config.check(config)
  return create_vae(config, (*images.sides(size), channels))


def numbers(shapes):
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


GANS = ['dcgan', 'resnet', 'r3gan']
RARE_STEPS = [
  pytest.param(name, size, marks=pytest.mark.slow)
  for name in GANS
  for size in SIZES
  if size != 9
]


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', GANS)
def test_networks_draw_and_see_images_of_any_size(name, size):
  gan = gan_of(name, size)

  def play():
    key, latents = jax.random.key(0), jnp.zeros((2, gan.latent_size))
    drawn, _ = gan.generator.init_with_output(key, latents, train=True)
    logits, _ = gan.discriminator.init_with_output(key, drawn, train=True)
    return drawn, logits

  drawn, logits = jax.eval_shape(play)
  assert drawn.shape == (2, *gan.example_shape)
  assert logits.shape == (2,)


@pytest.mark.parametrize(
  ('name', 'size'), [*((name, 9) for name in GANS), *RARE_STEPS]
)
def test_a_gan_takes_a_step_at_any_size(name, size):
  gan = gan_of(name, size)
  # Traced, which checks every shape.
  root = jax.eval_shape(lambda: prng.root_key(0))
  state = jax.eval_shape(functools.partial(init_state, gan), root)
  batch = jax.ShapeDtypeStruct((1, 4, *gan.example_shape), np.uint8)
  new, _ = jax.eval_shape(
    functools.partial(steps.train_step, gan), state, batch, root
  )
  assert new == state


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('name', ['conv', 'mlp'])
def test_a_vae_takes_a_step_at_any_size(name, size):
  vae = vae_of(name, size)
  root = jax.eval_shape(lambda: prng.root_key(0))
  state = jax.eval_shape(functools.partial(vae_state.init_state, vae), root)
  batch = jax.ShapeDtypeStruct((1, 4, *vae.image_shape), np.uint8)
  new, _ = jax.eval_shape(
    functools.partial(vae_steps.train_step, vae), state, batch, root
  )
  assert new == state
  z = jax.ShapeDtypeStruct((2, vae.latent_size), np.float32)
  decode = functools.partial(inference.decode, vae)
  assert jax.eval_shape(decode, state.params, z).shape[1:4] == vae.image_shape


def test_steps_of_rectangles_are_finite_and_change_both_players():
  gan = gan_of('dcgan', (13, 9), **{'augmentation.translation': True})
  root = prng.root_key(0)
  state = jax.jit(functools.partial(init_state, gan))(root)
  batch = np.random.default_rng(0).integers(0, 256, (1, 4, 13, 9, 3), np.uint8)
  new, _ = jax.jit(functools.partial(steps.train_step, gan))(state, batch, root)
  for player in ('generator', 'discriminator'):
    before, after = (getattr(s, player).params for s in (state, new))
    for x, y in zip(*map(jax.tree.leaves, (before, after)), strict=True):
      assert np.isfinite(y).all()
      assert not np.array_equal(x, y)


def test_only_the_pixels_of_an_image_count_in_its_likelihood():
  # The convolutions work on 10x14 pixels.
  vae = vae_of('conv', (9, 13), channels=1)
  params = jax.eval_shape(
    lambda: vae_state.init_state(vae, prng.root_key(0))
  ).params
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape), params)
  x = (np.arange(2 * 9 * 13).reshape(2, 9, 13, 1) % 2).astype(np.float32)
  outputs = inference.decode(vae, zeros, jnp.zeros((2, vae.latent_size)))
  nats = vae.likelihood.log_prob(outputs, x)
  # Each pixel is black with probability 1/2.
  np.testing.assert_allclose(nats, -9 * 13 * math.log(2), rtol=1e-6)


def test_an_encoder_sees_images_on_a_black_border():
  vae = vae_of('conv', (9, 13), channels=1)
  x = np.random.default_rng(0).random((2, 9, 13, 1), np.float32)
  padded = np.zeros((2, 10, 14, 1), np.float32)
  padded[:, :9, :13] = x
  init = functools.partial(vae.encoder.init, jax.random.key(0))
  variables = jax.jit(init)(x)
  encode = jax.jit(vae.encoder.apply)
  for a, b in zip(encode(variables, x), encode(variables, padded), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_padding_keeps_the_logits_of_r3gan_homogeneous():
  module = r3gan.Discriminator(
    (9, 11, 1), base_features=8, blocks_per_stage=1, group_size=8
  )
  x = jax.random.normal(jax.random.key(1), (2, 9, 11, 1))
  init = functools.partial(module.init, train=True)
  params = jax.jit(init)(jax.random.key(0), x)['params']
  # Biases and last layers of branches start at 0.
  params = jax.tree.map(lambda leaf: leaf + 0.1, params)
  logits = [
    module.apply({'params': params}, s * x, train=True, bias_scale=s * one)
    for s, one in ((1.0, jnp.ones(2)), (3.0, jnp.ones(2)))
  ]
  assert np.abs(logits[0]).min() > 1e-3
  np.testing.assert_allclose(logits[1], 3 * logits[0], rtol=1e-4)


@pytest.mark.parametrize(
  ('size', 'grid', 'start'),
  [
    (8, 8, 4),
    (28, 28, 7),
    (32, 32, 4),
    (48, 48, 6),
    (100, 112, 7),
    ((64, 128), (64, 128), (4, 8)),
    ((48, 24), (48, 24), (12, 6)),
    ((60, 100), (64, 112), (4, 7)),
    ((8, 9), (8, 10), (4, 5)),
  ],
)
def test_networks_work_on_the_smallest_size_that_they_can_double(
  size, grid, start
):
  assert images.grid_size(size) == images.sides(grid)
  assert images.doublings(grid)[0] == images.sides(start)


def test_every_size_fits_on_one_that_can_be_doubled():
  for height in range(8, 70):
    for width in range(8, 140):
      grid = images.grid_size((height, width))
      start, count = images.doublings(grid)
      assert 4 <= min(start) <= 7
      assert grid == tuple(x * 2**count for x in start)
      assert height <= grid[0] < 1.5 * height + 2
      assert width <= grid[1] < 1.5 * width + 8


def test_padding_and_cropping_are_inverse():
  x = jnp.arange(2 * 5 * 3 * 1.0).reshape(2, 5, 3, 1)
  padded = images.centre_pad(x, (8, 6), -1)
  assert padded.shape == (2, 8, 6, 1)
  assert np.sum(padded == -1) == 2 * (8 * 6 - 5 * 3)
  np.testing.assert_array_equal(images.centre_crop(padded, (5, 3)), x)
  assert images.centre_pad(x, (5, 3), -1) is x


@pytest.mark.parametrize(
  ('argument', 'expected'),
  [('=48', 48), ('=(64,128)', (64, 128)), ('=64, 128', (64, 128))],
)
def test_sizes_come_from_the_command_line_and_config_json(argument, expected):
  fields = [f'--config.dataset.image_size{argument}']
  fields.append('--config.model.grid_size=(128,128)')
  config = commands.load_config(RECIPE, fields)
  gan_config.check(config)
  assert config.dataset.image_size == expected
  stored = json.loads(stored_config.to_json(config))
  read = stored_config.from_stored(stored, gan_config.default(), 'config.json')
  assert read.dataset.image_size == expected
  assert read.model.grid_size == (128, 128)
  assert read.to_dict() == config.to_dict()
  assert gan_config.default().dataset.image_size == 32


@pytest.mark.parametrize(
  'size', ['48x24', 'True', '[3,4]', '(3,)', '(3,4,5)', '1.5', '0', 'None']
)
def test_other_sizes_are_refused_in_one_line(size):
  with pytest.raises(UserError, match='image_size') as error:
    gan_config.check(
      commands.load_config(RECIPE, [f'--config.dataset.image_size={size}'])
    )
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(('size', 'said'), [((64, 32), ''), (100, '112x112')])
def test_a_run_says_on_which_size_its_networks_work(capsys, size, said):
  images.print_grid_size(size)
  output = capsys.readouterr().out
  assert said in output
  assert output.count('\n') == bool(said)


@pytest.mark.parametrize('sides', [(64, 8), (9, 100), (13, 13)])
def test_feature_networks_take_rectangles(sides):
  batch = np.zeros((2, *sides, 1), np.uint8)
  network = classifier._Network(10)
  init = functools.partial(network.init, is_training=False)
  features, logits = jax.eval_shape(
    lambda x: network.apply(init(jax.random.key(0), x), x, is_training=False),
    images.to_signed(batch),
  )
  assert (features.shape, logits.shape) == ((2, 128), (2, 10))
  assert resizing.clean(batch).shape == (2, 299, 299, 3)
  features = jax.eval_shape(
    lambda x: random_network._Network().init_with_output(
      jax.random.key(0), images.to_signed(x)
    )[0],
    batch,
  )
  assert features.shape == (2, random_network.NUM_FEATURES)


@pytest.mark.parametrize('sides', [(13, 11), (9, 48), (16, 28), (100, 8)])
def test_the_watch_sees_where_rectangles_are_bright(sides):
  dark = jnp.zeros((1, *sides, 1))
  corner = dark.at[:, : sides[0] // 3, : sides[1] // 3].set(1)
  other = dark.at[:, -(sides[0] // 3) :, : sides[1] // 3].set(1)
  features = measures.features(jnp.concatenate([corner, other]))
  assert np.abs(features[0] - features[1]).max() > 0.9
  mean = corner.mean()
  np.testing.assert_allclose(features[0].mean(), mean, rtol=0.1)
