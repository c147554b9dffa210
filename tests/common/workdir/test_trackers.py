"""Trackers of runs: what they are told, resumed runs, and failures."""

import contextlib
import importlib.util
import json
import os
import struct

from ml_collections import ConfigDict
import numpy as np
import pytest

from common_flax.errors import UserError
from common_flax.workdir import trackers
from common_flax.workdir import writers
from common_flax.workdir.trackers import background
from gan_flax import config as gan_config
from gan_flax import main as gan

PICTURE = np.full((6, 8, 1), 7, np.uint8)


def config_of(*names):
  return ConfigDict(
    {'num_steps': 8, 'trackers': names, 'model': {'name': 'dcgan'}}
  )


class Fake:
  """Notes what it is told; fails where it is asked to."""

  fails_at: str | None = None

  def __init__(self, workdir, fields, known):
    self.told = [(fields['model.name'], known)]

  def __getattr__(self, name):
    def method(*arguments):
      if name == self.fails_at:
        raise RuntimeError('the server\nis gone')
      self.told.append((name, *arguments))

    return method


@pytest.fixture
def fakes(monkeypatch):
  """Fakes by name, once they are opened; `mlflow` and `wandb` are theirs."""
  opened = {}

  def create(name, *arguments):
    opened[name] = Fake(*arguments)
    return opened[name]

  kinds = {
    name: lambda *arguments, name=name: create(name, *arguments)
    for name in ('mlflow', 'wandb')
  }
  monkeypatch.setattr(trackers, '_KINDS', kinds)
  return opened


def write(workdir, config, start, steps, stop=None):
  with writers.RunWriter(workdir, start, config) as writer:
    for step in steps:
      writer.scalars(step, {'d_loss': 1 / step, 'g_loss': float('nan')})
      if step % 4 == 0:
        writer.picture(step, PICTURE)
    if stop:
      raise stop


def test_a_tracker_is_told_numbers_pictures_and_the_end(tmp_path, fakes):
  write(tmp_path, config_of('wandb'), 0, (2, 4))
  png = (tmp_path / 'samples/step_00000004.png').read_bytes()
  assert fakes['wandb'].told == [
    ('dcgan', None),
    ('start',),
    ('scalars', 2, {'d_loss': 0.5}),
    ('scalars', 4, {'d_loss': 0.25}),
    ('picture', 4, png),
    ('finish', False, False),
  ]
  assert not (tmp_path / 'tensorboard').exists()
  write(tmp_path, config_of('wandb'), 2, (4, 6, 8))
  assert fakes['wandb'].told[0] == ('dcgan', 4)
  assert fakes['wandb'].told[-1] == ('finish', True, False)


def test_a_tracker_is_told_of_a_failure(tmp_path, fakes):
  with contextlib.suppress(ValueError):
    write(tmp_path, config_of('wandb'), 0, (2, 8), ValueError())
  assert fakes['wandb'].told[-1] == ('finish', False, True)


@pytest.mark.parametrize('fails_at', ['start', 'scalars', 'picture', 'finish'])
def test_a_tracker_that_fails_costs_a_line(
  tmp_path, fakes, monkeypatch, capsys, fails_at
):
  monkeypatch.setattr(Fake, 'fails_at', fails_at)
  write(tmp_path, config_of('wandb', 'tensorboard'), 0, (2, 4, 6, 8))
  line = 'config.trackers: wandb: the server is gone; going on without it.\n'
  assert capsys.readouterr().out == line
  assert len(writers.read_rows(tmp_path)) == 4
  assert (tmp_path / 'tensorboard').exists()


def test_a_tracker_that_hangs_is_given_up(monkeypatch, capsys):
  monkeypatch.setattr(background, '_MAX_WAITING', 2)
  release = background.threading.Event()

  class Hanging:
    def start(self):
      release.wait()

  for num, reason in ((1, 'did not finish'), (5, 'does not keep up')):
    release.clear()
    tracker = background.Background('wandb', Hanging())
    for _ in range(num):
      tracker.tell('scalars', 1, {})
    tracker.close(background.time.monotonic() + 0.01)
    output = capsys.readouterr().out
    assert reason in output and output.count('\n') == 1
    release.set()
    tracker._thread.join()


def test_a_library_that_is_missing_is_refused(tmp_path, refuses, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name, *more: None if name == 'wandb' else find(name, *more),
  )
  flags = ['--config=dcgan:smoke', f'--workdir={tmp_path / "run"}']
  refuses(
    gan.main,
    [*flags, "--config.trackers=('tensorboard','wandb')"],
    'config.trackers=',
    'the extra wandb',
    folder=tmp_path,
  )


@pytest.mark.parametrize('names', [('wandbb',), ('wandb', 'wandb'), (3,)])
def test_unknown_trackers_are_refused(names):
  config = gan_config.default().unlock()
  config.trackers = names
  with pytest.raises(UserError, match=r'config\.trackers=.*tensorboard, mlf'):
    gan_config.check(config)


def records(path):
  """The records of a file of W&B, which has LevelDB's log format."""
  data, position, record = path.read_bytes(), 7, b''  # behind its header
  while position + 7 <= len(data):
    left = 2**15 - position % 2**15
    if left < 7:  # no header fits in what is left of the block
      position += left
      continue
    size, kind = struct.unpack_from('<HB', data, position + 4)
    record += data[position + 7 : position + 7 + size]
    position += 7 + size
    if kind in (1, 4):  # whole, or the last part
      yield record
      record = b''


@pytest.mark.slow
def test_wandb_goes_on_in_the_same_run(tmp_path, monkeypatch):
  wandb = pytest.importorskip('wandb')
  from wandb.proto import wandb_internal_pb2

  monkeypatch.setenv('WANDB_MODE', 'offline')
  with writers.RunWriter(tmp_path, 0, config_of('wandb')) as writer:
    writer.scalars(2, {'d_loss': 0.5})
    writer.picture(0, PICTURE)  # drawn after the first call of the step
  write(tmp_path, config_of('wandb'), 2, (4, 6))
  write(tmp_path, config_of('wandb'), 4, (6, 8))
  wandb.teardown()  # as at the end of a process: writes what is buffered
  found = []
  for path in sorted(tmp_path.glob('wandb/offline-run-*/run-*.wandb')):
    for data in records(path):
      record = wandb_internal_pb2.Record()
      record.ParseFromString(data)
      found.append(record)
  runs = {r.run.run_id for r in found if r.HasField('run')}
  stored = json.loads((tmp_path / 'tracker_wandb.json').read_text())
  assert runs == {stored['id']}
  config = {
    item.key: json.loads(item.value_json)
    for r in found
    for item in r.run.config.update
  }
  assert config['model.name'] == 'dcgan'
  rows = [
    {item.key or item.nested_key[0]: item.value_json for item in r.history.item}
    for r in found
    if r.HasField('history')
  ]
  losses = {row['_step']: row['d_loss'] for row in rows if 'd_loss' in row}
  assert losses == {'2': '0.5', '4': '0.25', '6': f'{1 / 6}', '8': '0.125'}
  assert len(rows) == 4
  assert len([*tmp_path.rglob('samples_*.png')]) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings('default')  # of MLflow's own
def test_mlflow_goes_on_in_the_same_run(tmp_path, monkeypatch):
  pytest.importorskip('mlflow')
  store = tmp_path / 'store'
  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', store.as_uri())
  work = tmp_path / 'run'
  work.mkdir()
  write(work, config_of('mlflow'), 0, (2, 4, 6))
  write(work, config_of('mlflow'), 4, (6, 8))
  from mlflow.tracking import MlflowClient

  client = MlflowClient()
  (experiment,) = client.search_experiments(filter_string="name != 'Default'")
  (run,) = client.search_runs([experiment.experiment_id])
  stored = json.loads((work / 'tracker_mlflow.json').read_text())
  assert stored == {'id': run.info.run_id}
  assert (run.info.run_name, run.info.status) == ('run', 'FINISHED')
  assert run.data.params['model.name'] == 'dcgan'
  history = client.get_metric_history(run.info.run_id, 'd_loss')
  assert [(m.step, m.value) for m in history] == [
    (2, 0.5),
    (4, 0.25),
    (6, 1 / 6),
    (8, 0.125),
  ]
  assert len([*store.rglob('samples+step+*.png')]) == 2


@pytest.mark.slow
def test_wandb_without_a_login_costs_a_line(tmp_path, monkeypatch, capsys):
  pytest.importorskip('wandb')
  for name in [*os.environ]:
    if name.startswith('WANDB'):
      monkeypatch.delenv(name)
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.setenv('NETRC', str(tmp_path / 'none'))
  work = tmp_path / 'run'
  work.mkdir()
  write(work, config_of('wandb'), 0, (2,))
  output = capsys.readouterr().out
  assert 'wandb login' in output and output.count('\n') == 1
