"""Every recipe and variant is complete, and builds networks and a step."""

import functools

from conftest import CONFIGS
from conftest import recipe
import jax
import numpy as np
import pytest

from common_flax import prng
from common_flax.data.batches import Labelled
from common_flax.data.worlds import WORLDS
from common_flax.errors import UserError
from gan_flax import config as gan_config
from gan_flax import steps
from gan_flax.gan import create_gan
from gan_flax.state import init_state
from vae_flax import config as vae_config
from vae_flax import state as vae_state
from vae_flax import steps as vae_steps
from vae_flax.vae import create_vae
from vq_flax import config as vq_config
from vq_flax import state as vq_state
from vq_flax import steps as vq_steps
from vq_flax.prior import config as prior_config
from vq_flax.prior import prior as prior_lib
from vq_flax.vq import create_vq

GAN_RECIPES = [
  *(
    ('dcgan.py', variant)
    for variant in ('', 'smoke', 'mnist', 'cifar10', 'celeba', 'folder')
  ),
  *(('quick.py', variant) for variant in ('', 'mnist', 'folder', 'smoke')),
  *(
    (world, variant)
    for world in ('ring.py', 'grid.py')
    for variant in ('', 'control', 'pacgan', 'smoke')
  ),
  ('ring.py', 'fragile'),
  *(
    (name, variant)
    for name in ('wgan_gp.py', 'sngan.py')
    for variant in ('', 'cifar10', 'smoke')
  ),
  *(
    ('r3gan.py', variant)
    for variant in ('', 'stacked', 'cifar10', 'dcgan', 'smoke')
  ),
  *(
    ('conditional.py', variant)
    for variant in ('', 'concatenation', 'mnist', 'cifar10', 'smoke')
  ),
  *(
    ('stacked.py', variant)
    for variant in ('', 'control', 'mnist', 'mnist_control', 'smoke')
  ),
  *(('small.py', variant) for variant in ('', 'none', 'diffaugment', 'smoke')),
]
VAE_RECIPES = [
  *(
    ('vae.py', variant)
    for variant in (
      '',
      'digits_2d',
      'conditional',
      'smoke',
      'mnist',
      'mnist_2d',
      'mnist_conditional',
      'cifar10',
      'celeba',
      'folder',
    )
  ),
  *(('vae_burda.py', variant) for variant in ('', 'iwae_5', 'smoke')),
  *(
    ('hvae.py', variant)
    for variant in ('', 'smoke', 'mnist', 'mnist_top', 'mnist_gpu', 'cifar10')
  ),
  *(
    ('vampprior.py', variant) for variant in ('', 'normal', 'mixture', 'smoke')
  ),
]
VQ_RECIPES = [
  *(
    ('vq.py', variant)
    for variant in ('', 'mnist', 'mnist_control', 'cifar10', 'smoke')
  ),
  *(('fsq.py', variant) for variant in ('', 'mnist', 'cifar10', 'smoke')),
]
PRIOR_RECIPES = [
  ('vq_prior.py', variant)
  for variant in ('', 'conditional', 'mnist', 'mnist_conditional', 'smoke')
]
COLOUR = {'cifar10', 'celeba', 'folder'}
# Variants of what others do, to be run rarely.
RARE = COLOUR | {
  'smoke',
  'control',
  'fragile',
  'none',
  'mnist',
  'mnist_control',
  'stacked',
  'concatenation',
  'pacgan',
  'mnist_top',
  'mnist_gpu',
  'mixture',
  'mnist_conditional',
}


def marked(recipes):
  """The recipes as a test's parameters, the rare ones for slow tests."""
  return [
    pytest.param(
      name, variant, marks=[pytest.mark.slow] if variant in RARE else []
    )
    for name, variant in recipes
  ]


def test_every_recipe_is_tested():
  assert {path.name for path in CONFIGS.glob('*.py')} == {
    recipe
    for recipe, _ in GAN_RECIPES + VAE_RECIPES + VQ_RECIPES + PRIOR_RECIPES
  }


@pytest.mark.parametrize(('name', 'variant'), marked(GAN_RECIPES))
def test_gan_recipe_builds_a_step(name, variant):
  config = recipe(name, variant)
  gan_config.check(config)
  size = config.dataset.image_size
  has_colours = variant in COLOUR or config.dataset.name == 'stacked'
  shape = (size, size, 3 if has_colours else 1)
  dtype = np.uint8
  if config.dataset.name in WORLDS:
    shape, dtype = (2,), np.float32
  gan = create_gan(config, shape, 10)
  has_labels = name in ('conditional.py', 'quick.py') and variant != 'folder'
  assert gan.is_conditional == has_labels
  root = prng.root_key(config.seed)
  axes = (config.discriminator_steps, 4)
  batch = np.zeros((*axes, *shape), dtype)
  if gan.is_conditional:
    batch = Labelled(batch, np.zeros(axes, np.int32))
  # Traced, not run: whole runs have tests of their own.
  state = jax.eval_shape(lambda: init_state(gan, root))
  new, metrics = jax.eval_shape(
    functools.partial(steps.train_step, gan), state, batch, root
  )
  assert new == state
  assert {value.shape for value in metrics.values()} == {()}


@pytest.mark.parametrize(('name', 'variant'), marked(VAE_RECIPES))
def test_vae_recipe_builds_a_step(name, variant):
  config = recipe(name, variant)
  vae_config.check(config)
  size = config.dataset.image_size
  shape = (size, size, 3 if variant in COLOUR else 1)
  vae = create_vae(config, shape, 10)
  assert vae.is_conditional == ('conditional' in variant)
  root = prng.root_key(config.seed)
  batch = np.zeros((1, 4, *shape), np.uint8)
  if vae.is_conditional:
    batch = Labelled(batch, np.zeros((1, 4), np.int32))
  state = jax.eval_shape(lambda: vae_state.init_state(vae, root))
  new, metrics = jax.eval_shape(
    functools.partial(vae_steps.train_step, vae), state, batch, root
  )
  assert new == state
  assert {value.shape for value in metrics.values()} == {()}


@pytest.mark.parametrize(('name', 'variant'), marked(VQ_RECIPES))
def test_vq_recipe_builds_a_step(name, variant):
  config = recipe(name, variant)
  vq_config.check(config)
  size = config.dataset.image_size
  shape = (size, size, 3 if variant in COLOUR else 1)
  vq = create_vq(config, shape, 10)
  root = prng.root_key(config.seed)
  batch = np.zeros((1, 4, *shape), np.uint8)
  state = jax.eval_shape(lambda: vq_state.init_state(vq, root))
  new, metrics = jax.eval_shape(
    functools.partial(vq_steps.train_step, vq), state, batch, root
  )
  assert new == state
  assert {value.shape for value in metrics.values()} == {()}


@pytest.mark.parametrize(('name', 'variant'), marked(PRIOR_RECIPES))
def test_prior_recipe_builds_a_step(name, variant):
  config = recipe(name, variant)
  prior_config.check(config)
  vq = create_vq(recipe('vq.py', 'smoke'), (16, 16, 1))
  prior = prior_lib.create_prior(config, vq, 10)
  assert prior.is_conditional == ('conditional' in variant)
  batch = np.zeros((1, 4, 16, 16, 1), np.uint8)
  if prior.is_conditional:
    batch = Labelled(batch, np.zeros((1, 4), np.int32))
  root = prng.root_key(config.seed)

  def init():
    return prior_lib.init_state(
      prior, vq_state.init_state(vq, root).params, root
    )

  state = jax.eval_shape(init)
  new, metrics = jax.eval_shape(
    functools.partial(prior_lib.train_step, prior), state, batch, root
  )
  assert new == state
  assert {value.shape for value in metrics.values()} == {()}


def test_celeba_has_the_widths_of_the_paper():
  gan = create_gan(recipe('dcgan.py', 'celeba'), (64, 64, 3))
  state = jax.eval_shape(lambda: init_state(gan, prng.root_key(0)))
  params = state.generator.params
  assert params['project']['kernel'].shape == (100, 4 * 4 * 1024)
  kernels = [params[f'conv_{i}']['kernel'].shape for i in range(1, 5)]
  assert kernels == [
    (5, 5, 1024, 512),
    (5, 5, 512, 256),
    (5, 5, 256, 128),
    (5, 5, 128, 3),
  ]


def test_r3gan_has_the_widths_of_the_paper():
  gan = create_gan(recipe('r3gan.py', 'cifar10'), (32, 32, 3))
  state = jax.eval_shape(lambda: init_state(gan, prng.root_key(0)))
  for net in (state.generator, state.discriminator):
    kernels = {
      name: block['conv']['kernel'].shape
      for name, block in net.params.items()
      if name.startswith('block')
    }
    assert len(kernels) == 8
    assert set(kernels.values()) == {(3, 3, 16, 2 * 768)}


def test_a_conditional_recipe_needs_labels():
  with pytest.raises(UserError, match='labels'):
    create_gan(recipe('conditional.py'), (32, 32, 1))


def test_unknown_variant_names_the_known_ones():
  with pytest.raises(ValueError, match='mnist'):
    recipe('dcgan.py', 'minst')
