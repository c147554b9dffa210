"""Workdirs and data in gs:// folders of a local store."""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from conftest import free_address
from conftest import HASTY_COMPILER
from conftest import LEAN
from conftest import POINTS_RUN
import numpy as np
import PIL.Image
import pytest
from saved_arrays import differences

BUCKET = 'bucket'
ROOT = pathlib.Path(__file__).parents[2]
# What it would ask for Google's cloud alone answers.
os.environ['GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT'] = 'false'
gcsfs = pytest.importorskip('gcsfs')
pytestmark = [
  pytest.mark.slow,
  # aiohttp would rather be sent large objects in pieces.
  pytest.mark.filterwarnings('ignore:Sending a large body:ResourceWarning'),
]

POINTS = [
  'gan_flax.main',
  '--config=configs/ring.py:smoke',
  *(f'--config.{name}={value}' for name, value in POINTS_RUN.items()),
]

# Two steps of a VAE of images: where its data lie is what counts.
DENSE_VAE = [
  'vae_flax.main',
  '--config=configs/vae.py:smoke',
  '--config.model.name=mlp',
  '--config.model.hidden_sizes=(16,)',
  '--config.num_steps=2',
]


class Store:
  """A store, and commands that may use it."""

  def __init__(self, address, cache):
    url = f'http://{address}'
    self.files = gcsfs.GCSFileSystem(
      endpoint_url=url, token='anon', use_listings_cache=False
    )
    self._environment = {
      **os.environ,
      'STORAGE_EMULATOR_HOST': url,
      'TENSORSTORE_GCS_HTTP_URL': url,
      'XDG_CACHE_HOME': str(cache),
      'XLA_FLAGS': HASTY_COMPILER,
      'JAX_PLATFORMS': 'cpu',
      'PYTHONPATH': f'{LEAN}:{ROOT}',
    }
    self._server = None
    self._said = [cache / name for name in ('out', 'errors')]

  def start(self, module, *arguments):
    return subprocess.Popen(
      [sys.executable, '-m', module, *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=ROOT,
      env=self._environment,
    )

  def run(self, *command, status=0):
    """Runs a command to its end; returns what it said, and its errors."""
    if self._server is None:
      self._server = self._serve()
    before = [file.stat().st_size for file in self._said]
    self._server.stdin.write(json.dumps(command) + '\n')
    self._server.stdin.flush()
    found = self._server.stdout.readline()
    out, errors = (
      file.read_bytes()[size:].decode()
      for file, size in zip(self._said, before, strict=True)
    )
    assert found == f'{status}\n', (found, out, errors)
    assert 'Traceback' not in errors
    return out, errors

  def _serve(self):
    """Starts the process that runs commands."""
    for file in self._said:
      file.touch()
    return subprocess.Popen(
      [sys.executable, ROOT / 'tests/gs/serving.py', *map(str, self._said)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      cwd=ROOT,
      env=self._environment,
    )

  def close(self):
    if self._server is not None:
      self._server.stdin.close()
      self._server.wait(timeout=60)
      self._server.stdout.close()


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  address = free_address()
  port = address.rpartition(':')[2]
  server = subprocess.Popen(
    [sys.executable, ROOT / 'tests/gs/emulator.py', port, BUCKET],
    stderr=subprocess.DEVNULL,
  )
  store = Store(address, tmp_path_factory.mktemp('cache'))
  deadline = time.monotonic() + 60
  while True:
    try:
      store.files.ls(BUCKET)
      break
    except Exception:
      assert time.monotonic() < deadline
      time.sleep(0.2)
  yield store
  store.close()
  server.terminate()
  server.wait()


@pytest.fixture(scope='module')
def finished(store, tmp_path_factory):
  """A run in the store that was interrupted once, and one in a folder."""
  remote, local = f'gs://{BUCKET}/run', tmp_path_factory.mktemp('run') / 'local'
  store.run(*POINTS, f'--workdir={local}')
  store.run(*POINTS, f'--workdir={remote}', '--config.num_steps=4')
  out, _ = store.run(*POINTS, f'--workdir={remote}')
  assert 'step 4' in out
  return remote, local


def test_a_run_equals_one_in_a_local_folder(store, finished, tmp_path):
  remote, local = finished
  store.files.get(remote, str(tmp_path / 'copy'), recursive=True)
  assert not differences(tmp_path / 'copy', local, 8)
  copied = {file.name for file in (tmp_path / 'copy').iterdir()}
  assert copied == {file.name for file in local.iterdir()}
  assert any((tmp_path / 'copy/tensorboard').iterdir())
  report = (tmp_path / 'copy/report.html').read_text()
  assert 'samples at step 8' in report and remote in report
  assert 'Resuming from step 4' in report  # from the log


@pytest.mark.parametrize(
  ('module', 'result'),
  [('gan_flax.sample', None), ('gan_flax.evaluate', 'evaluation.json')],
)
def test_commands_read_it_like_a_local_folder(
  store, finished, tmp_path, module, result
):
  found = []
  for workdir in map(str, finished):
    path = tmp_path / 'samples.npz'
    output = [] if result else [f'--output={path}', '--num_samples=9']
    store.run(module, f'--workdir={workdir}', *output)
    if not result:
      found.append(path.read_bytes())
    elif workdir.startswith('gs:'):
      found.append(json.loads(store.files.cat(f'{workdir}/{result}')))
    else:
      found.append(json.loads((finished[1] / result).read_text()))
    if result:
      del found[-1]['provenance']
  assert found[0] == found[1]


def test_a_damaged_checkpoint_is_skipped(store, finished):
  copy = f'{BUCKET}/damaged'
  store.files.copy(finished[0], copy, recursive=True)
  for name in store.files.find(f'{copy}/checkpoints/8/state'):
    if '/d/' in name:
      store.files.rm(name)
  out, _ = store.run(*POINTS, f'--workdir=gs://{copy}')
  assert 'Checkpoint 8 cannot be read' in out
  assert 'taking 6 instead' in out


def wait_for_step(process):
  for line in process.stdout:
    if line.startswith('step '):
      return
  raise AssertionError(process.stderr.read())


def test_one_run_holds_a_workdir_and_saves_when_stopped(store):
  workdir = f'--workdir=gs://{BUCKET}/long'
  long = [*POINTS, workdir, '--config.num_steps=1000000']
  long += ['--config.checkpoint_every_steps=1000000']
  first = store.start(*long)
  try:
    wait_for_step(first)
    _, errors = store.run(*long, status=2)
    assert 'trains in it' in errors
    first.send_signal(signal.SIGTERM)
    out, errors = first.communicate(timeout=100)
    assert first.returncode == 143, (out, errors)
  finally:
    first.kill()
  assert not store.files.exists(f'{BUCKET}/long/lock.json')
  assert len(store.files.ls(f'{BUCKET}/long/checkpoints')) == 1


def test_a_run_rolls_back_in_a_store(store):
  """Learning far too fast, it is soon not finite."""
  workdir = f'{BUCKET}/back'
  changes = ['generator.learning_rate=1e30', 'on_nan=rollback']
  changes += ['on_nan_max_rollbacks=1', 'checkpoint_every_steps=1']
  _, errors = store.run(
    *POINTS,
    f'--workdir=gs://{workdir}',
    *(f'--config.{change}' for change in changes),
    status=1,
  )
  assert 'not finite. Stopped after 1 rollback.' in errors
  discarded = store.files.find(f'{workdir}/checkpoints_discarded')
  assert any('/1/' in name for name in discarded)


def test_images_come_from_a_store(store, tmp_path):
  for i in range(20):
    buffer = io.BytesIO()
    pixels = np.full((8, 8), 10 * i, np.uint8)
    PIL.Image.fromarray(pixels).save(buffer, 'PNG')
    store.files.pipe(f'{BUCKET}/photos/{i}.png', buffer.getvalue())
  command = [
    *DENSE_VAE,
    '--config.dataset.name=folder',
    f'--config.dataset.path=gs://{BUCKET}/photos',
  ]
  out, _ = store.run(*command, f'--workdir={tmp_path / "run"}')
  assert '18 images (16, 16, 1) of folder' in out
  store.files.pipe(f'{BUCKET}/photos/3.png', b'no image')
  _, errors = store.run(*command, f'--workdir={tmp_path / "new"}', status=2)
  assert f'gs://{BUCKET}/photos/3.png: cannot be decoded' in errors


def test_a_missing_bucket_is_named(store):
  _, errors = store.run(*POINTS, '--workdir=gs://other/run', status=2)
  assert errors.splitlines()[-1].startswith('error: --workdir=gs://other/run')


@pytest.mark.skipif(
  'TFDS_DATA_DIR' not in os.environ, reason='needs TFDS_DATA_DIR with mnist'
)
def test_a_prepared_data_set_comes_from_a_store(store, tmp_path):
  folder = pathlib.Path(os.environ['TFDS_DATA_DIR']) / 'mnist'
  store.files.put(str(folder), f'{BUCKET}/tfds/mnist', recursive=True)
  out, _ = store.run(
    *DENSE_VAE,
    '--config.dataset.name=mnist',
    f'--config.dataset.data_dir=gs://{BUCKET}/tfds',
    f'--workdir={tmp_path / "run"}',
  )
  assert 'of mnist' in out
