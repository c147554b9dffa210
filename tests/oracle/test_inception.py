"""The network of FID, its weights and its resizing against their references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from common_flax.errors import UserError
from common_flax.metrics import inception
from common_flax.metrics import resizing
from common_flax.metrics import torch_weights

cleanfid = pytest.importorskip('cleanfid.resize')
pytorch_fid = pytest.importorskip('pytorch_fid.inception')
extractor = pytest.importorskip('torch_fidelity.feature_extractor_inceptionv3')

TOLERANCE = 1e-5  # of a tap's norm; what differs is found at a hundred times


def random_tensors(seed=0):
  """Weights that keep the size of what goes through, by PyTorch's names."""
  image = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
  shapes = jax.eval_shape(
    inception.InceptionV3().init, jax.random.key(0), image
  )
  random = np.random.default_rng(seed)
  tensors = {'fc.bias': random.normal(size=inception.NUM_OUTPUTS)}
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    _, layer, *rest = (entry.key for entry in path)
    suffix, axes = inception._TENSORS[tuple(rest)]
    shape = [leaf.shape[axes.index(i)] for i in range(len(axes))]
    if suffix.endswith('running_var'):
      values = random.uniform(0.5, 2, shape)
    elif suffix == 'bn.weight':
      values = random.uniform(0.8, 1.2, shape)
    elif len(shape) == 1:
      values = random.normal(0, 0.3, shape)
    else:
      values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    tensors[f'{layer}.{suffix}'] = values
  return {k: torch.tensor(v, dtype=torch.float32) for k, v in tensors.items()}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """A file of them."""
  path = tmp_path_factory.mktemp('weights') / 'random.pth'
  torch.save(random_tensors(), path)
  return path


@pytest.fixture(scope='module')
def reference(weights):
  """pytorch-fid's network with these weights: images -> four taps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      pytorch_fid,
      'load_state_dict_from_url',
      lambda *unused, **also_unused: torch.load(weights),
    )
    network = pytorch_fid.InceptionV3([0, 1, 2, 3]).eval()

  def taps(images):
    x = torch.tensor(images.transpose(0, 3, 1, 2) / np.float32(255))
    with torch.no_grad():
      return [y.mean((2, 3)).numpy() for y in network(x)]

  return taps


def ours(weights, images, resize='legacy'):
  """A program of its own each time, since mutations change it."""
  network = inception.load(str(weights), resize)
  x = jnp.asarray(resizing.RESIZES[resize](images))
  return jax.device_get(
    jax.jit(lambda v, x: inception.InceptionV3().apply(v, x))(
      network.variables, x
    )
  )


def noise(height, width, seed=0):
  random = np.random.default_rng(seed)
  return random.integers(0, 256, (2, height, width, 3), np.uint8)


def extremes(size):
  """Black, white, a chequerboard, a white frame."""
  images = np.zeros((4, size, size, 3), np.uint8)
  images[1] = 255
  images[2, ::2, ::2] = images[2, 1::2, 1::2] = 255
  images[3, [0, -1]] = images[3, :, [0, -1]] = 255
  return images


INPUTS = {
  '32': noise(32, 32),
  '64': noise(64, 64),
  '299': noise(299, 299),
  '512': noise(512, 512),
  'wide': noise(40, 100),
  'extremes of 32': extremes(32),
  'extremes of 299': extremes(299),
}


def errors(found, expected):
  """Relative, of each tap."""
  return [
    np.linalg.norm(x - y) / np.linalg.norm(y)
    for x, y in zip(found, expected, strict=True)
  ]


@pytest.mark.parametrize('name', INPUTS)
def test_taps_are_those_of_pytorch_fid(weights, reference, name):
  images = INPUTS[name]
  expected = reference(images)
  assert [y.shape[1] for y in expected] == [64, 192, 768, 2048]
  # Nothing vanishes or explodes, or any tolerance would do.
  assert all(0.05 < y.std() < 20 for y in expected)
  assert max(errors(ours(weights, images)[:4], expected)) < TOLERANCE


def padded_average(x):
  return inception.nn.avg_pool(x, (3, 3), padding='SAME')


def antialiased(x):
  shape = (len(x), resizing.SIZE, resizing.SIZE, 3)
  return jax.image.resize(x, shape, 'bilinear', antialias=True)


@pytest.mark.parametrize(
  ('module', 'name', 'mutation'),
  [
    (inception, '_average_pool', padded_average),
    (inception, '_max_pool', inception._average_pool),
    (inception, '_EPSILON', 1e-5),
    (resizing, '_bilinear', antialiased),
  ],
  ids=['padding counted', 'average last', 'epsilon', 'antialiased'],
)
def test_a_network_that_differs_is_found_out(
  weights, reference, monkeypatch, module, name, mutation
):
  images = noise(512, 512)
  monkeypatch.setattr(module, name, mutation)
  assert (
    max(errors(ours(weights, images)[:4], reference(images))) > 100 * TOLERANCE
  )


def test_logits_are_torch_fidelitys(weights):
  network = extractor.FeatureExtractorInceptionV3(
    'inception',
    ['2048', 'logits_unbiased'],
    feature_extractor_weights_path=str(weights),
  )
  images = noise(299, 299)  # which nobody resizes
  with torch.no_grad():
    expected = network(torch.tensor(images.transpose(0, 3, 1, 2)))
  found = ours(weights, images, 'clean')
  expected = [x.numpy() for x in expected]
  assert max(errors(found[3:], expected)) < TOLERANCE


@pytest.mark.parametrize('name', INPUTS)
def test_clean_images_are_those_of_clean_fid(name):
  images = INPUTS[name]
  resize = cleanfid.build_resizer('clean')
  expected = np.stack([resize(image) for image in images])
  if images.shape[1:3] == (299, 299):
    expected = images.astype(np.float32)  # which ours leaves alone
  found = np.asarray(resizing.clean(images)) * 128 + 128
  np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize('is_zip', [True, False])
def test_weights_are_read_without_running_code(tmp_path, is_zip):
  tensors = {
    'transposed': torch.arange(6.0).reshape(2, 3).T,
    'part': torch.arange(10.0)[3:7],
    'half': torch.ones(2, 2, dtype=torch.float16),
    'number': torch.tensor(3),
    'empty': torch.zeros(0, 4),
    'parameter': torch.nn.Parameter(torch.ones(2)),
  }
  path = tmp_path / 'weights.pth'
  torch.save(tensors, path, _use_new_zipfile_serialization=is_zip)
  found = torch_weights.read(path)
  assert set(found) == set(tensors)
  for name, tensor in tensors.items():
    expected = tensor.detach().numpy()
    assert found[name].dtype == expected.dtype
    np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize('is_zip', [True, False])
def test_a_module_is_no_file_of_weights(tmp_path, is_zip):
  path = tmp_path / 'module.pth'
  torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=is_zip)
  with pytest.raises(UserError, match=r"asks for 'torch\.nn"):
    torch_weights.read(path)
