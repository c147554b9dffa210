"""R3GAN's networks and their gradients against plain PyTorch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks import torch_resnet
from gan_flax import penalties
from gan_flax.losses import LOSSES
from gan_flax.models import r3gan

# At a side of 64 the finest stage is narrower than the others.
SHAPE, BASE_FEATURES, GROUP_SIZE, BLOCKS, LATENTS = (64, 64, 2), 4, 2, 1, 5
GAMMA = 0.7


def numpy_of(tensor):
  return tensor.detach().numpy()


def kernels(layer, is_dense=False):
  """A layer's parameters in the names and the order of axes of Flax."""
  weight = numpy_of(layer.weight)
  if weight.ndim == 4:
    weight = weight.transpose(2, 3, 1, 0)
    weight = weight[0, 0] if is_dense else weight
  else:
    weight = weight.T
  params = {'kernel': weight}
  if layer.bias is not None:
    params['bias'] = numpy_of(layer.bias)
  return params


def blocks_of(layers, names):
  """The blocks and the 1x1 convolutions of a sequence, under our names."""
  params = {}
  names = iter(names)
  for layer in layers:
    if isinstance(layer, torch_resnet.Block):
      params[next(names)] = {
        'expand': kernels(layer.expand, is_dense=True),
        'conv': kernels(layer.conv),
        'project': kernels(layer.project, is_dense=True),
      }
    elif not isinstance(layer, torch_resnet.Resampling):
      params[next(names)] = kernels(layer, is_dense=True)
  return params


def params_of(net):
  """The parameters of a PyTorch network as those of ours."""
  stages = range(5)
  blocks = [[f'block_{i}_{j}' for j in range(BLOCKS)] for i in stages]
  basis = numpy_of(net.basis).transpose(1, 2, 0)
  if isinstance(net, torch_resnet.R3GANGenerator):
    names = [*itertools.chain(*blocks[:4]), 'narrow_4', *blocks[4], 'image']
    rest = {'basis': basis, 'weights': kernels(net.weights)}
  else:
    coarser = itertools.chain(*blocks[3::-1])
    names = ['features', *blocks[4], 'widen_4', *coarser]
    rest = {'basis': basis, 'logit': kernels(net.logit)}
  return rest | blocks_of(net.layers, names)


def gradients_of(net):
  """The gradients of a PyTorch network as parameters of ours."""
  with torch.no_grad():
    for parameter in net.parameters():
      parameter.copy_(parameter.grad)
  return params_of(net)


@pytest.fixture(scope='module')
def networks():
  torch.manual_seed(0)
  widths = r3gan.widths(SHAPE[0], BASE_FEATURES)
  assert widths == (4, 4, 4, 4, 2)
  sizes = (BLOCKS, GROUP_SIZE)
  nets = (
    torch_resnet.R3GANGenerator(4, widths, SHAPE[-1], LATENTS, *sizes),
    torch_resnet.R3GANDiscriminator(4, widths, SHAPE[-1], *sizes),
  )
  for net in nets:
    net.double()
    with torch.no_grad():  # the branches, too, and their biases
      for parameter in net.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
  return nets


def assert_close(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max())


def test_both_players_gradients_are_those_of_pytorch(networks):
  generator, discriminator = networks
  random = np.random.default_rng(0)
  latents = random.normal(size=(3, LATENTS))
  real = random.uniform(-1, 1, (3, *SHAPE))
  options = dict(
    base_features=BASE_FEATURES,
    blocks_per_stage=BLOCKS,
    group_size=GROUP_SIZE,
    dtype=jnp.float64,
    param_dtype=jnp.float64,
  )
  draw = functools.partial(r3gan.Generator(SHAPE, **options).apply, train=True)
  classify = functools.partial(
    r3gan.Discriminator(SHAPE, **options).apply, train=True
  )
  loss = LOSSES['relativistic']
  pay = penalties.Penalties(0.0, GAMMA, GAMMA, every_steps=1)

  def discriminator_loss(params, fake):
    def critic(x):
      return classify({'params': params}, x)

    game = jnp.mean(loss.discriminator(critic(real), critic(fake)))
    return game + pay.total(critic, real, fake, None)

  def generator_loss(params, opponent):
    fake = draw({'params': params}, latents)
    logits = [classify({'params': opponent}, x) for x in (real, fake)]
    return jnp.mean(loss.generator(*logits))

  with jax.enable_x64(True):
    params, opponent = map(params_of, networks)
    fake = jax.jit(draw)({'params': params}, latents)
    d_found = jax.jit(jax.value_and_grad(discriminator_loss))(opponent, fake)
    g_found = jax.jit(jax.value_and_grad(generator_loss))(params, opponent)
    d_found, g_found, fake = jax.device_get((d_found, g_found, fake))

  images = torch.tensor(real.transpose(0, 3, 1, 2))
  drawn = generator(torch.tensor(latents))
  assert_close(fake, numpy_of(drawn).transpose(0, 2, 3, 1))
  g_loss = torch_resnet.r3gan_generator_loss(discriminator, images, drawn)
  g_loss.backward()
  discriminator.zero_grad()
  d_loss = torch_resnet.r3gan_discriminator_loss(
    discriminator, images, drawn, GAMMA
  )
  d_loss.backward()
  assert_close(g_found, (numpy_of(g_loss), gradients_of(generator)))
  assert_close(d_found, (numpy_of(d_loss), gradients_of(discriminator)))
