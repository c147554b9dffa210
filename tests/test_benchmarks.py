"""What benchmarks compute besides times."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import dcgan
from benchmarks import flax_dcgan
from benchmarks import layers
from benchmarks import objectives
from benchmarks import overhead
from benchmarks import resnet
from benchmarks import seeds
from benchmarks import turns
from common_flax import data
from common_flax.cpu import memory
from common_flax.nn.norms import NORMS
from gan_flax import config as gan_config
from gan_flax.losses import LOSSES
from gan_flax.models import dcgan as ours


def sleeper(seconds):
  return lambda num_steps: time.sleep(seconds * num_steps)


def broken():
  raise ModuleNotFoundError('no such framework')


@pytest.mark.slow
def test_contenders_take_turns_and_broken_ones_are_named():
  said = []
  builds = {
    'slow': functools.partial(sleeper, 0.02),
    'broken': broken,
    'fast': functools.partial(sleeper, 0.002),
  }
  seconds = turns.time_in_turns(builds, 3, 2, said.append)
  assert {name: len(times) for name, times in seconds.items()} == {
    'slow': 3,
    'fast': 3,
  }
  assert min(seconds['slow']) >= 0.02
  assert said == ['broken: left out: ModuleNotFoundError: no such framework']


def test_the_ratio_is_taken_round_by_round():
  seconds = {'slow': [2, 40, 6], 'fast': [1, 10, 2]}
  median, low, high = turns.ratio(seconds, 'slow', 'fast')
  assert (median, low, high) == (3, 2.5, 3.5)


@pytest.mark.parametrize('name', ['Generator', 'Discriminator'])
def test_the_plain_flax_networks_have_the_same_parameters(name):
  """The same numbers of them, layer by layer."""
  shape = (16, 16, 3)
  size = (1, 10) if name == 'Generator' else (1, *shape)

  def sizes(module):
    init = functools.partial(module.init, train=True)
    variables = jax.eval_shape(init, jax.random.key(0), jnp.zeros(size))
    return sorted(x.size for x in jax.tree.leaves(variables['params']))

  plain = sizes(getattr(flax_dcgan, name)(shape, 4))
  assert plain == sizes(getattr(ours, name)(shape, 4))


@pytest.mark.parametrize('plain', [False, True])
def test_a_step_runs_on_our_layers_and_on_those_of_flax(plain, monkeypatch):
  monkeypatch.setattr(memory, 'keep_freed', lambda: None)
  sizes = dcgan.Sizes(image_size=8, channels=3, base_features=5, batch_size=2)
  dcgan.build_jax(sizes, plain, 'float32')(1)


def test_multiply_adds_are_eleven_passes():
  sizes = dcgan.Sizes(image_size=8, channels=3, base_features=5, batch_size=2)
  convolution = 4 * 4 * (4 * 4 * 3 * 5)  # 8x8x3 to 4x4x5, or back
  logit, project = 16 * 5, 16 * 5 * 100
  expected = 2 * (8 * (convolution + logit) + 3 * (convolution + project))
  assert dcgan.multiply_adds(sizes) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
  ('network', 'dtype'), [('resnet', 'float32'), ('r3gan', 'bfloat16')]
)
def test_a_step_of_residual_networks_runs(network, dtype, monkeypatch):
  monkeypatch.setattr(memory, 'keep_freed', lambda: None)
  sizes = resnet.Sizes(network, 8, 2, 2, batch_size=2)
  resnet.build_jax(sizes, dtype)(1)


def test_multiply_adds_of_residual_networks():
  sizes = resnet.Sizes('r3gan', 8, 2, 2, batch_size=3)
  block = 2 * 4 + 4 * 9 * 2 + 4 * 2  # at each pixel, 2 to 4 to 4 to 2
  passes = 2 * 4 + 3 + 3
  expected = 3 * passes * 2 * (4 * 4 + 8 * 8) * block
  assert resnet.multiply_adds(sizes) == expected
  sizes = resnet.Sizes('resnet', 16, 2, 2, batch_size=3)
  generator = 2 * (8 * 8 + 16 * 16) * 9 * 4 * 4
  discriminator = (2 * 16 * 16 + 4 * 8 * 8) * 9 * 2 * 2
  expected = 3 * (8 * discriminator + 3 * generator)
  assert resnet.multiply_adds(sizes) == expected


@pytest.mark.parametrize(
  ('benchmark', 'flag', 'cure'),
  [
    (dcgan, '--image_size=28', 'use 8, 16'),
    (layers, '--image_size=30', '28, 32, 64'),
    (resnet, '--image_size=30', '28, 32, 64'),
    (layers, '--kernel_size=1', 'use 2 or more'),
    (overhead, '--steps=1500', 'a multiple of 1000'),
    (seeds, '--steps=10', 'a multiple of 50'),
  ],
)
def test_sizes_that_cannot_be_timed_are_refused(benchmark, flag, cure, capsys):
  assert benchmark.main(['benchmark', flag]) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'error: {flag}: ') and cure in error


def test_every_loss_penalty_and_norm_is_tried():
  configs = [
    objectives.create_config(name, 'float32', 2) for name in objectives.VARIANTS
  ]
  assert {config.loss.name for config in configs} == LOSSES.keys()
  assert {config.model.discriminator_norm for config in configs} == set(NORMS)
  assert {config.model.spectral_norm for config in configs} == {False, True}
  for name, unused in gan_config.default().penalty.items():
    assert any(config.penalty[name] != unused for config in configs), name


@pytest.mark.slow
def test_objectives_say_which_step_was_not_finite():
  config = objectives.create_config(
    'wasserstein, clipped weights', 'float32', 2
  )
  config.generator.learning_rate = 1e30
  source = data.load_source('digits', 'train', 32)
  metrics = objectives.train(config, source, 3)
  assert np.isfinite(metrics['g_loss'][0])
  assert not np.isfinite(metrics['g_loss'][-1])
