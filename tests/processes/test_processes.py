"""Runs of several processes on one machine, each with virtual devices."""

import functools
import json
import shutil
import signal
import time

from conftest import free_address
from conftest import POINTS_RUN
from conftest import read_metrics
from conftest import saved_steps
import numpy as np
import PIL.Image
import pytest
from saved_arrays import arrays_of
from starting import commands
from starting import finish
from starting import start

pytestmark = pytest.mark.slow

NUM_STEPS = 6
SMALL = {
  'batch_size': 16,
  'sample_every_steps': NUM_STEPS,
  'checkpoint_every_steps': NUM_STEPS,
  'dataset.flip': True,
}
KINDS = {
  'gan': {'dataset.image_size': 16, 'model.base_features': 4},
  'vae': {
    'model.name': 'mlp',
    'model.hidden_sizes': [16],
    'model.base_features': 32,  # the default: dense layers have none
  },
}
ALONE = [
  ('gan', 'jit', 'float64'),
  ('gan', 'jit', 'float32'),
  ('vae', 'jit', 'float64'),
]
# Processes, devices of each, and the cases they train. The tests of the train
# steps cover one process with eight devices.
LAYOUTS = {
  '2x2': (
    2,
    2,
    [
      ('gan', 'jit', 'float64'),
      ('gan', 'pmap', 'float32'),
      ('vae', 'pmap', 'float64'),
    ],
  ),
  # A GAN's steps are slow here; a stopped run below covers them.
  '4x1': (4, 1, [('gan', 'pmap', 'float32'), ('vae', 'jit', 'float64')]),
}
TRAINED = [
  (layout, *case) for layout, (*_, cases) in LAYOUTS.items() for case in cases
]


def job(folder, family, parallelism, compute_dtype):
  num_steps = NUM_STEPS if compute_dtype == 'float64' else 1
  changes = {
    **SMALL,
    **KINDS[family],
    'parallelism': parallelism,
    'compute_dtype': compute_dtype,
    'num_steps': num_steps,
  }
  name = f'{family}_{parallelism}_{compute_dtype}'
  return {'family': family, 'workdir': str(folder / name), 'changes': changes}


def train_all(folder, num_processes, num_devices, cases):
  """Trains each case; returns the folder of their workdirs."""
  folder.mkdir()
  jobs = folder / 'jobs.json'
  jobs.write_text(json.dumps([job(folder, *case) for case in cases]))
  address = free_address()
  worker = ['tests/processes/worker.py', str(jobs), str(num_processes)]
  finish(
    [
      start([*worker, str(i), address], num_devices, JAX_ENABLE_X64='1')
      for i in range(num_processes)
    ]
  )
  return folder


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
  """The folder of all cases, each trained on a single device."""
  folder = tmp_path_factory.mktemp('alone') / 'runs'
  return train_all(folder, 1, 1, ALONE)


@pytest.fixture(scope='module')
def together(tmp_path_factory):
  """A function: layout -> the folder of its runs."""

  @functools.cache
  def train(layout):
    folder = tmp_path_factory.mktemp(layout) / 'runs'
    return train_all(folder, *LAYOUTS[layout])

  return train


def assert_close(workdir, other, step):
  """Both hold the same state, up to the order of sums in float64."""
  actual, expected = arrays_of(workdir, step), arrays_of(other, step)
  assert actual.keys() == expected.keys()
  for name, x in expected.items():
    assert x.dtype in (np.float64, np.int32), name
    np.testing.assert_allclose(actual[name], x, rtol=1e-9, atol=1e-9)


def of_type(compute_dtype):
  cases = [case[:3] for case in TRAINED if case[3] == compute_dtype]
  return pytest.mark.parametrize(('layout', 'family', 'parallelism'), cases)


@of_type('float64')
def test_steps_match_one_device(alone, together, layout, family, parallelism):
  workdir = together(layout) / f'{family}_{parallelism}_float64'
  assert_close(workdir, alone / f'{family}_jit_float64', NUM_STEPS)


@of_type('float32')
def test_float32_gradients_match_one_device(
  alone, together, layout, family, parallelism
):
  """Adam's first moment is a tenth of the first gradient."""
  expected = arrays_of(alone / f'{family}_jit_float32', 1)
  actual = arrays_of(together(layout) / f'{family}_{parallelism}_float32', 1)
  names = [name for name in expected if "['mu']" in name]
  assert names
  a, b = (
    np.concatenate([tree[name].ravel() for name in names])
    for tree in (actual, expected)
  )
  assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


COMMAND = [
  '-m',
  'gan_flax.main',
  '--config=configs/dcgan.py:smoke',
  '--config.batch_size=16',
  '--config.model.base_features=4',
  '--config.dataset.image_size=16',
  '--config.compute_dtype=float64',
  '--config.log_every_steps=4',
  '--config.sample_every_steps=32',
  '--config.checkpoint_every_steps=50',
]


# Of points, whose steps compile faster.
POINTS_COMMAND = [
  '-m',
  'gan_flax.main',
  '--config=configs/ring.py:smoke',
  *(f'--config.{name}={value}' for name, value in POINTS_RUN.items()),
  '--config.log_every_steps=4',
  '--config.checkpoint_every_steps=1000000',
]


def command(workdir, num_processes, num_devices, num_steps=32, base=COMMAND):
  """Starts the processes of one run."""
  arguments = [
    *base,
    f'--workdir={workdir}',
    f'--config.num_steps={num_steps}',
  ]
  return commands(arguments, num_processes, num_devices, JAX_ENABLE_X64='1')


def wait_for_lines(workdir, num, processes):
  metrics = workdir / 'metrics.jsonl'
  deadline = time.monotonic() + 120
  while not metrics.exists() or metrics.read_text().count('\n') < num:
    assert all(process.poll() is None for process in processes)
    assert time.monotonic() < deadline
    time.sleep(0.02)


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
  """An uninterrupted run on one device."""
  workdir = tmp_path_factory.mktemp('straight') / 'run'
  finish(command(workdir, 1, 1))
  return workdir


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
  """A run of 2 x 2 devices, stopped by a signal to its second process."""
  workdir = tmp_path_factory.mktemp('stopped') / 'run'
  processes = command(workdir, 2, 2)
  wait_for_lines(workdir, 1, processes)
  processes[1].send_signal(signal.SIGTERM)
  (first, second) = finish(processes, status=143)
  assert 'Stopped by a signal and checkpointed. To resume: ' in first[0]
  assert 'Stopped' not in second[0]  # only the first process prints
  return workdir


@pytest.mark.parametrize(('num_processes', 'num_devices'), [(1, 4), (4, 1)])
def test_a_stopped_run_resumes_with_other_processes(
  stopped, straight, tmp_path, num_processes, num_devices
):
  (step,) = saved_steps(stopped)
  assert 4 <= step < 32
  workdir = tmp_path / 'run'
  shutil.copytree(stopped, workdir)
  (first, *_) = finish(command(workdir, num_processes, num_devices))
  assert f'Resuming from step {step:,} in {workdir}.' in first[0]
  assert_close(workdir, straight, 32)
  steps = [row['step'] for row in read_metrics(workdir)]
  assert steps == sorted({*range(4, 33, 4), step})


def test_a_killed_process_ends_the_others(tmp_path):
  """A killed process, like a lost machine, is not waited for."""
  processes = command(tmp_path / 'run', 2, 1, 1_000_000, POINTS_COMMAND)
  wait_for_lines(tmp_path / 'run', 1, processes)
  processes[1].kill()
  processes[0].communicate(timeout=200)
  processes[1].communicate()
  assert processes[0].returncode not in (0, 143)


def test_a_mistake_in_one_process_stops_all(tmp_path):
  """Each process prints a reason, and nothing is written."""
  workdir = tmp_path / 'run'
  address = free_address()
  shared = [*COMMAND, f'--workdir={workdir}', f'--coordinator={address}']
  shared += ['--num_processes=2', '--config.dataset.name=folder']
  (tmp_path / 'images').mkdir()
  for i in range(8):
    picture = np.full((16, 16), 30 * i, np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / 'images' / f'{i}.png')
  paths = [tmp_path / 'images', tmp_path / 'missing']
  outputs = finish(
    [
      start(
        [*shared, f'--process_id={i}', f'--config.dataset.path={path}'],
        1,
        JAX_ENABLE_X64='1',
      )
      for i, path in enumerate(paths)
    ],
    status=2,
  )
  (first, second) = [errors.splitlines()[-1] for _, errors in outputs]
  assert first == 'error: process 1 cannot start; see what it says'
  assert second.startswith(f'error: config.dataset.path={paths[1]}: ')
  assert not workdir.exists()
