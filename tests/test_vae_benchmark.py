"""What a VAE's train step is compared with, and what its table counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import vae as benchmark
from common_flax import prng
from vae_flax import inference
from vae_flax import steps
from vae_flax.state import init_state
from vae_flax.vae import create_vae

BATCH, SHAPE = 4, (28, 28, 1)
LAYERS = {
  ('encoder', 'hidden_0'): 'encoder.0',
  ('encoder', 'hidden_1'): 'encoder.2',
  ('encoder', 'mean'): 'mean',
  ('encoder', 'log_var'): 'log_var',
  ('decoder', 'hidden_0'): 'decoder.0',
  ('decoder', 'hidden_1'): 'decoder.2',
  ('decoder', 'outputs'): 'decoder.4',
}


@pytest.fixture(scope='module')
def torch_vae():
  """PyTorch is an extra."""
  pytest.importorskip('torch')
  from benchmarks import torch_vae

  return torch_vae


def ours(num_samples):
  sizes = benchmark.Sizes(BATCH, num_samples)
  config = benchmark.create_config(sizes, 'float32').unlock()
  # PyTorch's has no limit. So high a one, beyond what a run may have, does not
  # bend the log-variances; 80 would change gradients by parts in 10,000.
  config.model.max_log_var = 1e4
  vae = create_vae(config, SHAPE)
  init = functools.partial(init_state, vae, prng.root_key(0))
  return sizes, vae, jax.jit(init)().params


def theirs(torch_vae, sizes):
  return torch_vae.VAE(sizes.num_pixels, sizes.hidden_size, sizes.latent_size)


def as_theirs(params):
  """Our weights, or gradients with respect to them, by PyTorch's names."""
  named = {}
  for (network, layer), name in LAYERS.items():
    named[f'{name}.weight'] = np.array(params[network][layer]['kernel']).T
    named[f'{name}.bias'] = np.array(params[network][layer]['bias'])
  return named


def test_both_networks_have_the_same_number_of_parameters_by_layer(torch_vae):
  sizes, _, params = ours(1)
  in_torch = theirs(torch_vae, sizes).named_parameters()
  assert {name: tuple(x.shape) for name, x in in_torch} == {
    name: x.shape for name, x in as_theirs(params).items()
  }
  assert set(params) == {'encoder', 'decoder'}
  layers = {(n, layer) for n in params for layer in params[n]}
  assert layers == set(LAYERS)


@pytest.mark.parametrize('num_samples', [1, 3])
def test_both_networks_have_the_same_loss_and_gradients(torch_vae, num_samples):
  """With the same weights, the same images and the same noise."""
  import torch

  sizes, vae, params = ours(num_samples)
  images = np.random.default_rng(0).integers(0, 2, (BATCH, *SHAPE))
  x = images.astype(np.float32)
  key = jax.random.key(1)
  standard = jnp.zeros((BATCH, sizes.latent_size))
  noise = inference.reparameterise(key, standard, standard, num_samples)
  (loss, _), gradients = jax.value_and_grad(
    functools.partial(steps.loss, vae), has_aux=True
  )(params, x, key, jnp.zeros((), jnp.int32))

  network = theirs(torch_vae, sizes)
  network.load_state_dict(
    {name: torch.tensor(x) for name, x in as_theirs(params).items()}
  )
  bound = torch_vae.bound(
    network,
    torch.tensor(x.reshape(BATCH, -1)),
    torch.tensor(np.array(noise)),
  )
  (-bound).backward()

  np.testing.assert_allclose(-bound.item(), loss, rtol=1e-5)
  expected = as_theirs(gradients)
  for name, param in network.named_parameters():
    scale = np.abs(expected[name]).max()
    np.testing.assert_allclose(
      param.grad.numpy(), expected[name], rtol=0, atol=1e-4 * scale
    )


def test_pytorch_takes_steps(torch_vae):
  sizes = benchmark.Sizes(2, 2)
  run = benchmark.build_torch(sizes, fused=False, compiled=False, bfloat16=True)
  run(2)


def test_multiply_adds_are_three_products_a_layer_but_two_at_the_pixels():
  sizes = benchmark.Sizes(
    batch_size=2,
    num_importance_samples=3,
    num_pixels=7,
    hidden_size=5,
    latent_size=4,
  )
  encoder = 2 * (7 * 5) + 3 * (5 * 5) + 3 * (5 * 4) + 3 * (5 * 4)
  decoder = 3 * (4 * 5) + 3 * (5 * 5) + 3 * (5 * 7)
  assert benchmark.multiply_adds(sizes) == 2 * encoder + 2 * 3 * decoder


def test_an_unknown_contender_is_refused_and_the_known_are_named(capsys):
  assert benchmark.main(['vae', '--only=Theano']) == 2
  error = capsys.readouterr().err
  assert error.startswith('error: --only=Theano: unknown; use one of ')
  for name in benchmark.contenders(benchmark.Sizes(1, 1), 20):
    assert name in error
