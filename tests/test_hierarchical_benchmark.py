"""What a hierarchy's train step is compared with, and what its table counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import hierarchical as benchmark
from common_flax import config as config_lib
from common_flax import prng
from vae_flax import inference
from vae_flax import steps
from vae_flax.models import groups
from vae_flax.state import init_state
from vae_flax.vae import create_vae

BATCH, SIZE = 3, 8
SCALES = ((1, 8, 2, 3), (4, 6, 1, 2))


@pytest.fixture(scope='module')
def torch_hierarchical():
  """PyTorch is an extra."""
  pytest.importorskip('torch')
  from benchmarks import torch_hierarchical

  return torch_hierarchical


def small_config():
  config = config_lib.load('hvae:mnist').unlock()
  config.batch_size = BATCH
  config.dataset.image_size = SIZE
  config.model.groups = SCALES
  config.model.max_log_var = 1e4  # PyTorch's has no limit
  return config


def kernel(weight):
  """The weight of a 1x1 or 3x3 convolution, as of Flax."""
  weight = weight.transpose(2, 3, 1, 0)
  return weight[0, 0] if weight.shape[:2] == (1, 1) else weight


def dense(layer, values):
  return {'kernel': kernel(values(layer.weight)), 'bias': values(layer.bias)}


def block(layer, values):
  return {
    name: dense(getattr(layer, name), values)
    for name in ('reduce', 'mix', 'expand')
  }


def from_patches(layer, values):
  weight = values(layer.weight).transpose(2, 3, 1, 0)  # [f, f, I, O]
  return {
    'kernel': weight.reshape(-1, weight.shape[-1]),
    'bias': values(layer.bias),
  }


def to_patches(layer, values):
  weight = values(layer.weight).transpose(0, 2, 3, 1)  # [I, f, f, O]
  size = weight.shape[1] ** 2
  return {
    'kernel': weight.reshape(len(weight), -1),
    'bias': np.tile(values(layer.bias), size),
  }


def as_ours(network, values):
  """PyTorch's parameters, or what `values` makes of them, by our names."""
  encoder, decoder = {}, {}
  number = 0
  for i, (_, _, num_groups, _) in enumerate(SCALES):
    encoder[f'reduce_{i}'] = from_patches(network.reduce[i], values)
    decoder[f'start_{i}'] = values(network.start[i]).transpose(1, 2, 0)
    name = 'last' if i == len(SCALES) - 1 else f'expand_{i}'
    decoder[name] = to_patches(network.expand[i], values)
    for j in range(num_groups):
      encoder[f'blocks_{i}_{j}'] = block(network.encoder[number], values)
      encoder[f'posteriors_{number}'] = block(
        network.posteriors[number], values
      )
      decoder[f'priors_{number}'] = block(network.priors[number], values)
      decoder[f'join_{number}'] = dense(network.join[number], values)
      decoder[f'blocks_{number}'] = block(network.blocks[number], values)
      number += 1
  return {'encoder': encoder, 'decoder': decoder}


def test_both_networks_have_the_same_loss_and_gradients(torch_hierarchical):
  """With the same weights, the same images and the same noise."""
  import torch

  config = small_config()
  vae = create_vae(config, (SIZE, SIZE, 1))
  torch.manual_seed(0)
  network = torch_hierarchical.HierarchicalVAE(SIZE, SCALES)
  for parameter in network.start:
    torch.nn.init.normal_(parameter)
  params = as_ours(network, lambda x: x.detach().numpy())
  shapes = jax.eval_shape(lambda: init_state(vae, prng.root_key(0)).params)
  assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(
    lambda x: x.shape, shapes
  )
  x = np.random.default_rng(0).integers(0, 2, (BATCH, SIZE, SIZE, 1))
  x = x.astype(np.float32)
  key = jax.random.key(1)
  standard = jnp.zeros((BATCH, vae.latent_size))
  noise = inference.reparameterise(key, standard, standard)[:, 0]
  # Our warm-up has ended.
  step = jnp.int32(config.kl_warmup_steps)
  (loss, _), gradients = jax.jit(
    jax.value_and_grad(
      lambda params: steps.loss(vae, params, x, key, step), has_aux=True
    )
  )(params)

  bound = network.bound(
    torch.tensor(x.transpose(0, 3, 1, 2)),
    [
      torch.tensor(np.array(each).transpose(0, 3, 1, 2))
      for each in groups.split(noise, vae.scales)
    ],
    config.free_bits_nats,
  )
  (-bound).backward()
  np.testing.assert_allclose(-bound.item(), loss, rtol=1e-5)
  theirs = as_ours(network, lambda x: x.grad.numpy())
  for name in ('last', 'expand_0'):
    # PyTorch's biases are the same at all pixels of a patch.
    ours = gradients['decoder'][name]
    patches = len(ours['bias']) // (1 if name == 'last' else SCALES[1][1])
    summed = np.asarray(ours['bias']).reshape(patches, -1).sum(axis=0)
    ours['bias'] = np.tile(summed, patches)
  for (path, ours), expected in zip(
    jax.tree_util.tree_leaves_with_path(gradients),
    jax.tree.leaves(theirs),
    strict=True,
  ):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
      ours, expected, rtol=0, atol=2e-4 * scale + 1e-6, err_msg=str(path)
    )


def test_pytorch_takes_steps(torch_hierarchical):
  run = benchmark.build_torch(
    benchmark.sizes_of(small_config()), channels_last=True, compiled=False
  )
  run(2)


def test_multiply_adds_of_a_single_group():
  sizes = benchmark.Sizes(
    batch_size=2, image_size=4, scales=((2, 6, 1, 5),), free_nats=0.0
  )
  encoder = 6 * 3 + 9 * 3 * 3 + 3 * 6
  prior = 6 * 3 + 9 * 3 * 3 + 3 * (6 + 10)
  posterior = 12 * 3 + 9 * 3 * 3 + 3 * 10
  after = 5 * 6 + 6 * 3 + 9 * 3 * 3 + 3 * 6
  patches = 2 * (4 * 6)  # of 2x2 pixels, to and from features
  pixel = encoder + prior + posterior + after + patches
  assert benchmark.multiply_adds(sizes) == 3 * 2 * 4 * pixel
