"""Eight virtual CPU devices, strict ranks, and what several tests share."""

import os

# Tests compile far more than they compute.
HASTY_COMPILER = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
)
os.environ['XLA_FLAGS'] = (
  f'{HASTY_COMPILER} --xla_force_host_platform_device_count=8'
)
os.environ['JAX_PLATFORMS'] = 'cpu'

import gc
import json
import pathlib
import runpy
import socket
import tempfile

import jax
import numpy as np
import PIL.Image
import pytest
from sklearn import datasets

from common_flax import commands
from common_flax import prng
from common_flax import speed
from common_flax import tasks
from common_flax import workdir as workdir_lib
from common_flax.checkpoints import Checkpoints
from common_flax.checkpoints import STATE
from gan_flax import config as gan_config
from gan_flax.state import create_gan
from gan_flax.state import init_state
from gan_flax.train import train
from vae_flax.train import train as train_vae

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'

jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_finish():
  """What was imported stays: to look there for garbage is time for nothing."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope='session', autouse=True)
def caches():
  """Tests leave the user's caches alone."""
  with tempfile.TemporaryDirectory() as folder:
    os.environ['XDG_CACHE_HOME'] = folder
    yield


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory, worker_id):
  """Compiles what several tests train once, in whatever process."""
  folder = tmp_path_factory.getbasetemp()
  if worker_id != 'master':
    folder = folder.parent
  jax.config.update('jax_compilation_cache_dir', str(folder / 'compiled'))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


@pytest.fixture(scope='session', autouse=True)
def without_echoes():
  """What TensorStore says of a file it cannot read may come tests later."""
  with commands.without_echoes():
    yield


@pytest.fixture(scope='session', autouse=True)
def uncounted():
  """Counting a step's operations takes longer than a smoke run's steps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tasks, 'count_flops', lambda *unused_arguments: 1e6)
    yield


def recipe(name: str, variant: str = ''):
  """The config of a recipe, unlocked."""
  get_config = runpy.run_path(str(CONFIGS / name))['get_config']
  return get_config(variant).unlock()


# Changes of configs/ring.py:smoke: a GAN with little to compile, often saved.
POINTS_RUN = {
  'num_seeds': 1,
  'steps_per_call': 1,
  'num_steps': 8,
  'checkpoint_every_steps': 2,
  'sample_every_steps': 8,
  'loss.name': 'non_saturating',
  'penalty.r1': 0.0,
  'penalty.r2': 0.0,
  'generator.schedule': 'constant',  # so that num_steps may change
  'discriminator.schedule': 'constant',
}


def free_address():
  """An address of this machine that nothing listens at."""
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{server.getsockname()[1]}'


def points_run(**changes):
  config = recipe('ring.py', 'smoke')
  config.update_from_flattened_dict(POINTS_RUN | changes)
  return config


def saved_steps(workdir):
  """The steps of which a workdir has checkpoints."""
  with Checkpoints(workdir / 'checkpoints') as checkpoints:
    return checkpoints.steps()


def final_state(workdir):
  """The state of a GAN's newest checkpoint, in NumPy."""
  _, _, state = workdir_lib.restore(
    workdir,
    STATE,
    workdir_lib.read_config(workdir, gan_config.default()),
    create_gan,
    lambda gan: init_state(gan, prng.root_key(0)),
  )
  return jax.device_get(state)


def assert_same_pictures(workdir, other):
  """Every grid of the other run is in this one, bit by bit."""
  for path in sorted((other / 'samples').iterdir()):
    same = workdir / 'samples' / path.name
    assert same.read_bytes() == path.read_bytes(), path.name


def assert_same_arrays(tree, other):
  """The leaves of two pytrees are the same bits."""
  leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
  for x, y in leaves:
    np.testing.assert_array_equal(x, y)


def read_metrics(workdir):
  """The lines of a run's metrics.jsonl."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture
def smoke_config():
  return recipe('dcgan.py', 'smoke')


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
  """The workdir of a finished smoke run; not to be changed."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tasks, 'count_flops', speed.count_flops)
    assert train(recipe('dcgan.py', 'smoke'), workdir) is None
  return workdir


@pytest.fixture(scope='session')
def trained_conditional(tmp_path_factory):
  """The workdir of a finished smoke run; not to be changed."""
  workdir = tmp_path_factory.mktemp('trained_conditional') / 'run'
  assert train(recipe('conditional.py', 'smoke'), workdir) is None
  return workdir


@pytest.fixture
def vae_config():
  """Of dense layers, which are compiled sooner than convolutions."""
  config = recipe('vae.py', 'smoke')
  config.model.name = 'mlp'
  config.model.hidden_sizes = (16,)
  return config


@pytest.fixture(scope='session')
def trained_vae(tmp_path_factory):
  """The workdir of a finished smoke run; not to be changed."""
  workdir = tmp_path_factory.mktemp('trained_vae') / 'run'
  assert train_vae(recipe('vae.py', 'smoke'), workdir) is None
  return workdir


@pytest.fixture(scope='session')
def photographs(tmp_path_factory):
  """A folder of colour photographs of mixed sizes, in two classes."""
  folder = tmp_path_factory.mktemp('photographs')
  random = np.random.default_rng(0)
  for name in ('china.jpg', 'flower.jpg'):
    photo = PIL.Image.fromarray(datasets.load_sample_image(name))
    (folder / name[:-4]).mkdir()
    for i in range(24):
      width, height = random.integers(40, 300, 2)
      left = random.integers(0, photo.width - width)
      top = random.integers(0, photo.height - height)
      ending = ('jpg', 'png', 'webp', 'jpeg')[i % 4]
      photo.crop((left, top, left + width, top + height)).save(
        folder / name[:-4] / f'{i:02d}.{ending}'
      )
  return folder
