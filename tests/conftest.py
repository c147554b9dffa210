"""Eight CPU devices, no rank promotion, and the fixtures that tests share."""

import os

# Tests compile far more than they compute. Without XLA's newer emitters of
# fusions, and in one piece, a train step compiles in a quarter of the time.
HASTY_COMPILER = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true '
  '--xla_cpu_use_fusion_emitters=false '
  '--xla_cpu_parallel_codegen_split_count=1'
)
os.environ['XLA_FLAGS'] = (
  f'{HASTY_COMPILER} --xla_force_host_platform_device_count=8'
)
os.environ['JAX_PLATFORMS'] = 'cpu'

import functools
import gc
import json
import math
import pathlib
import runpy
import socket
import tempfile
import types

import jax
import matplotlib
import numpy as np
import PIL.Image
import pytest
from saved_arrays import arrays_of
from sklearn import datasets

from common_flax.cli import exit_status
from common_flax.metrics import classifier
from common_flax.training import loop
from common_flax.training import run as run_lib
from common_flax.training import seeds
from common_flax.training import speed
from common_flax.training.origin import Origin
from common_flax.workdir import layout as workdir_lib
from common_flax.workdir.checkpoints import STATE
from gan_flax import config as gan_config
from gan_flax.gan import create_gan
from gan_flax.state import init_state as init_gan_state
from gan_flax.train import train
from vae_flax import config as vae_config_lib
from vae_flax.state import init_state as init_vae_state
from vae_flax.train import train as train_vae
from vae_flax.vae import create_vae
from vq_flax import config as vq_config_lib
from vq_flax.state import init_state as init_vq_state
from vq_flax.vq import create_vq

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
LEAN = ROOT / 'tests' / 'lean'  # for PYTHONPATH: see sitecustomize.py there
FAMILIES = {
  'gan': (gan_config.default, create_gan, init_gan_state),
  'vae': (vae_config_lib.default, create_vae, init_vae_state),
  'vq': (vq_config_lib.default, create_vq, init_vq_state),
}

# Enough to tell most digits apart.
CLASSIFIER_STEPS = 200

_count_flops = speed.count_flops

jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_finish():
  """Exempts imported modules from garbage collection, which takes seconds."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope='module', autouse=True)
def short_collections():
  """Exempts what other modules have left behind, too.

  A command that refuses its input collects garbage; in a process that has
  trained many models, that would take seconds each time.
  """
  gc.collect()
  gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def without_thawing():
  """Keeps what `short_collections` froze: the end of a run would thaw it."""
  idle = types.SimpleNamespace(freeze=lambda: None, unfreeze=lambda: None)
  with pytest.MonkeyPatch.context() as patch:
    for module in (loop, run_lib):
      patch.setattr(module, 'gc', idle)
    yield


@pytest.fixture(scope='session', autouse=True)
def hardly_classified():
  """A classifier of real images takes longer to train than a smoke run."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(classifier, '_MIN_STEPS', CLASSIFIER_STEPS)
    yield


@pytest.fixture(scope='session', autouse=True)
def caches():
  """Keeps the user's caches untouched."""
  # Processes that tests start need not search for fonts again.
  os.environ.setdefault('MPLCONFIGDIR', matplotlib.get_cachedir())
  with tempfile.TemporaryDirectory() as folder:
    os.environ['XDG_CACHE_HOME'] = folder
    yield


@pytest.fixture(scope='session', autouse=True)
def compilation_cache(tmp_path_factory, worker_id):
  """Shares compiled programs between tests and between test processes.

  With JAX_COMPILATION_CACHE_DIR set, test runs share them too.
  """
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  folder = tmp_path_factory.getbasetemp()
  if worker_id != 'master':
    folder = folder.parent
  jax.config.update('jax_compilation_cache_dir', str(folder / 'compiled'))


@pytest.fixture(scope='session', autouse=True)
def without_echoes():
  """TensorStore may report an unreadable file several tests later."""
  with exit_status.without_echoes():
    yield


@pytest.fixture(scope='session', autouse=True)
def uncounted():
  """Counting a step's operations takes longer than a smoke run."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(speed, 'count_flops', lambda unused_traced: 1e6)
    yield


def recipe(name: str, variant: str = ''):
  """The config of a recipe, unlocked."""
  get_config = runpy.run_path(str(CONFIGS / name))['get_config']
  return get_config(variant).unlock()


# Overrides of configs/ring.py:smoke: quick to compile, checkpointed often.
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
  """A local address whose port is free."""
  with socket.socket() as server:
    server.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{server.getsockname()[1]}'


def points_run(**changes):
  config = recipe('ring.py', 'smoke')
  config.update_from_flattened_dict(POINTS_RUN | changes)
  return config


def saved_steps(workdir):
  """The steps at which a run was checkpointed."""
  with workdir_lib.open_checkpoints(workdir) as checkpoints:
    return checkpoints.steps()


def final_state(workdir, family='gan'):
  """The state in a run's newest checkpoint, as NumPy arrays."""
  default, create, init = FAMILIES[family]
  config = workdir_lib.read_config(workdir, default())
  roots = seeds.root_keys(0, config.get('num_seeds', 1))

  def init_all(model):
    one = functools.partial(init, model)
    return jax.vmap(one)(roots) if roots.ndim else one(roots)

  _, _, state = workdir_lib.restore(workdir, STATE, config, create, init_all)
  return jax.device_get(state)


def assert_same_end(workdir, other):
  """Both runs ended with the same checkpoint and pictures, bit for bit."""
  (*_, step), (*_, last) = saved_steps(workdir), saved_steps(other)
  assert step == last
  assert_same_arrays(arrays_of(workdir, step), arrays_of(other, step))
  assert_same_pictures(workdir, other)


def assert_same_pictures(workdir, other):
  """Every picture of `other` is in `workdir`, bit for bit."""
  for path in sorted((other / 'samples').iterdir()):
    same = workdir / 'samples' / path.name
    assert same.read_bytes() == path.read_bytes(), path.name


def assert_same_arrays(tree, other):
  """The leaves of two pytrees are equal, bit for bit."""
  leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
  for x, y in leaves:
    np.testing.assert_array_equal(x, y)


def read_metrics(workdir):
  """The lines of a run's metrics.jsonl."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture
def in_the_repository(monkeypatch):
  """Runs a test in the root folder, for which commands name recipes."""
  monkeypatch.chdir(ROOT)


def contents(folder):
  """Every path below a folder; the bytes of files, None for folders."""
  return {
    path: path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
  }


@pytest.fixture
def refuses(capfd):
  """Asserts that a command exits with 2 and one line, and writes nothing."""

  def check(main, arguments, *words, folder):
    before = contents(folder)
    assert main(['command', *arguments]) == 2
    error = capfd.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    for word in words:
      assert word in error
    assert contents(folder) == before

  return check


@pytest.fixture
def untrained(monkeypatch):
  """Ends every run before its first step, as if it were finished."""
  monkeypatch.setattr(Origin, 'newest', lambda *unused: (math.inf, None))


@pytest.fixture
def smoke_config():
  return recipe('dcgan.py', 'smoke')


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
  """The workdir of a finished smoke run; read-only."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(speed, 'count_flops', _count_flops)
    assert train(recipe('dcgan.py', 'smoke'), workdir) is None
  return workdir


@pytest.fixture(scope='session')
def trained_conditional(tmp_path_factory):
  """The workdir of a finished smoke run; read-only."""
  workdir = tmp_path_factory.mktemp('trained_conditional') / 'run'
  assert train(recipe('conditional.py', 'smoke'), workdir) is None
  return workdir


@pytest.fixture(scope='session')
def trained_points(tmp_path_factory):
  """The workdir of a finished smoke run of the ring; read-only."""
  workdir = tmp_path_factory.mktemp('trained_points') / 'run'
  assert train(points_run(keep_checkpoints=9), workdir) is None
  return workdir


@pytest.fixture
def vae_config():
  """Dense layers, which compile faster than convolutions."""
  config = recipe('vae.py', 'smoke')
  config.model.name = 'mlp'
  config.model.hidden_sizes = (16,)
  config.model.base_features = 32  # the default: dense layers have none
  return config


@pytest.fixture(scope='session')
def trained_vae(tmp_path_factory):
  """The workdir of a finished smoke run; read-only."""
  workdir = tmp_path_factory.mktemp('trained_vae') / 'run'
  assert train_vae(recipe('vae.py', 'smoke'), workdir) is None
  return workdir


@pytest.fixture(scope='session')
def photographs(tmp_path_factory):
  """A folder of colour photographs of various sizes, in two classes."""
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
