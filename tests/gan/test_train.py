"""Whole runs: their files, and resuming them bit for bit."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from conftest import assert_same_arrays
from conftest import assert_same_end
from conftest import final_state
from conftest import HASTY_COMPILER
from conftest import LEAN
from conftest import points_run
from conftest import read_metrics
from conftest import saved_steps
import jax
import PIL.Image
import pytest

from common_flax.workdir.checkpoints import INFO
from common_flax.workdir.checkpoints import STATE
from gan_flax import steps
from gan_flax.state import GENERATOR
from gan_flax.train import train


def test_a_step_is_traced_once(tmp_path, monkeypatch):
  """Counting its operations finds the trace of training again."""
  traced = []
  train_step = steps.train_step

  def counted(*arguments):
    traced.append(1)
    return train_step(*arguments)

  monkeypatch.setattr(steps, 'train_step', counted)
  train(points_run(num_steps=2), tmp_path)
  assert len(traced) == 1


def test_a_run_writes_all_its_files(trained):
  assert [row['step'] for row in read_metrics(trained)] == [2, 4, 6, 8]
  row = read_metrics(trained)[-1]
  assert set(row) >= {
    'd_loss',
    'g_loss',
    'images_per_second',
    'step_milliseconds',
    'model_gflops_per_second',
    'matmul_rate_share',
    'real_probability',
    'fake_probability',
    'd_grad_norm',
    'g_grad_norm',
  }
  operations = row['model_gflops_per_second'] * row['step_milliseconds'] * 1e6
  assert operations > 2e6  # counted, not the 1e6 of other runs
  names = ('config.json', 'curves.png', 'samples.gif', 'report.html')
  assert all((trained / name).stat().st_size for name in names)
  assert any((trained / 'tensorboard').glob('events*'))
  grids = sorted(path.name for path in (trained / 'samples').iterdir())
  assert grids == [f'step_{step:08d}.png' for step in (0, 4, 8)]
  with PIL.Image.open(trained / 'samples' / grids[-1]) as grid:
    assert grid.size == (8 * 18 + 2, 8 * 18 + 2)
  with PIL.Image.open(trained / 'samples.gif') as gif:
    assert gif.n_frames == 3
  report = (trained / 'report.html').read_text()
  for words in ('gan_flax.steps.train_step', 'dcgan on digits', 'step 8<'):
    assert words in report
  stored = json.loads((trained / 'config.json').read_text())
  assert stored['dataset']['name'] == 'digits'
  assert stored['num_steps'] == 8


def test_a_checkpoint_holds_the_state_and_the_generator(trained):
  assert saved_steps(trained) == [4, 8]
  for item in (STATE, GENERATOR, INFO):
    assert (trained / 'checkpoints' / '8' / item).is_dir()
  assert final_state(trained).step == 8


def test_a_finished_run_takes_no_step(trained, smoke_config, capsys):
  def times():
    return {path: path.stat().st_mtime_ns for path in trained.rglob('*')}

  before = times()
  assert train(smoke_config, trained) is None
  assert 'already finished' in capsys.readouterr().out
  assert times() == before


def test_missing_pictures_do_not_prevent_the_last_checkpoint(
  tmp_path,
):
  workdir, every = tmp_path / 'run', {'sample_every_steps': 4}
  train(points_run(num_steps=6, **every), workdir)
  (workdir / 'samples' / 'step_00000000.png').unlink()
  (workdir / 'samples' / 'step_00000004.png').write_bytes(b'')
  (workdir / 'samples' / 'step_mine.png').write_bytes(b'')
  with (workdir / 'metrics.jsonl').open('a') as file:
    file.write('[]\n')
  train(points_run(num_steps=8, **every), workdir)
  assert final_state(workdir).step == 8
  with PIL.Image.open(workdir / 'samples.gif') as gif:
    assert gif.n_frames == 2


@pytest.mark.slow
def test_divergence_is_printed_and_recorded_as_json(tmp_path, capsys):
  config = points_run(on_nan='warn')
  config.generator.learning_rate = config.discriminator.learning_rate = 1e30
  train(config, tmp_path)
  assert 'd_loss' in read_metrics(tmp_path)[-1]
  assert 'training has diverged' in capsys.readouterr().out
  assert 'NaN' not in (tmp_path / 'metrics.jsonl').read_text()


@pytest.mark.slow
def test_profile_traces_the_given_steps(tmp_path, capsys):
  config = points_run(num_steps=4)
  assert train(config, tmp_path, profile=range(2, 3)) is None
  assert 'Traced from step 2' in capsys.readouterr().out
  traces = list((tmp_path / 'tensorboard').rglob('perfetto_trace.json.gz'))
  assert len(traces) == 1
  assert b'jit_' in gzip.decompress(traces[0].read_bytes())
  config.num_steps = 6
  assert train(config, tmp_path, profile=range(2, 3)) is None
  assert 'Nothing is traced' in capsys.readouterr().out


def assert_resumes_to(straight, config, workdir):
  """In two halves, a run ends like one that was not interrupted."""
  num_steps = config.num_steps
  config.num_steps = 6
  train(config, workdir)
  config.num_steps = num_steps
  train(config, workdir)
  # The first half ended with one more grid.
  (workdir / 'samples' / 'step_00000006.png').unlink()
  assert_same_end(workdir, straight)
  steps = [row['step'] for row in read_metrics(workdir)]
  assert steps == [*range(2, num_steps + 1, 2)]


def test_resuming_gives_the_same_bits(tmp_path, smoke_config, trained):
  assert_resumes_to(trained, smoke_config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes',
  [
    pytest.param({'parallelism': 'pmap'}, id='pmap'),
    pytest.param({'steps_per_call': 2}, id='pairs'),
  ],
)
def test_resuming_gives_the_same_bits_otherwise(tmp_path, changes):
  config = points_run(num_steps=12, **changes)
  train(config, tmp_path / 'straight')
  assert_resumes_to(tmp_path / 'straight', config, tmp_path / 'halves')


@pytest.mark.slow
def test_a_run_may_change_its_parallelism(tmp_path):
  train(points_run(num_steps=4), tmp_path)
  train(points_run(num_steps=8, parallelism='pmap'), tmp_path)
  assert final_state(tmp_path).step == 8


@pytest.mark.slow
def test_lines_and_grids_beyond_the_restored_step_are_dropped(tmp_path):
  train(points_run(num_steps=4), tmp_path)
  grid = (tmp_path / 'samples' / 'step_00000004.png').read_bytes()
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 6, "d_loss": 0.0}\n{"step": 8, "d_l')
  (tmp_path / 'samples' / 'step_00000006.png').write_bytes(grid)
  train(points_run(num_steps=8), tmp_path)
  assert [row['step'] for row in read_metrics(tmp_path)] == [2, 4, 6, 8]
  assert read_metrics(tmp_path)[2]['d_loss'] != 0
  assert not (tmp_path / 'samples' / 'step_00000006.png').exists()


def test_a_damaged_checkpoint_is_skipped_and_kept(
  tmp_path, smoke_config, trained, capsys
):
  workdir = tmp_path / 'run'
  shutil.copytree(trained, workdir)
  for file in (workdir / 'checkpoints' / '8' / 'state').rglob('*'):
    if file.is_file():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  train(smoke_config, workdir)
  assert 'taking 4 instead' in capsys.readouterr().out
  assert (workdir / 'checkpoints_discarded' / '8').is_dir()
  assert_same_end(workdir, trained)


def test_training_starts_from_the_weights_of_another_run(
  tmp_path, smoke_config, trained
):
  adopted = []

  def keep(now):
    if now.is_start:
      adopted.append(jax.device_get(now.state))

  smoke_config.num_steps = 2
  train(smoke_config, tmp_path, init_from=trained, hooks=[keep])
  given = final_state(trained)
  assert_same_arrays(given.generator.params, adopted[0].generator.params)
  assert adopted[0].step == 0
  assert final_state(tmp_path).step == 2


def run_main(workdir, *arguments, recipe='dcgan'):
  return subprocess.Popen(
    [
      sys.executable,
      '-m',
      'gan_flax.main',
      f'--config=configs/{recipe}.py:smoke',
      f'--workdir={workdir}',
      *arguments,
    ],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={
      **os.environ,
      'PYTHONPATH': str(LEAN),
      'XLA_FLAGS': HASTY_COMPILER,
    },
  )


@pytest.mark.slow
def test_ctrl_c_checkpoints_and_prints_how_to_resume(tmp_path):
  # In its own process; 1,000,000 steps would take hours.
  arguments = [
    '--config.num_steps=1000000',
    '--config.checkpoint_every_steps=1000000',
  ]
  process = run_main(tmp_path, *arguments, recipe='ring')
  metrics_file = tmp_path / 'metrics.jsonl'
  deadline = time.monotonic() + 120
  while not (metrics_file.exists() and metrics_file.stat().st_size):
    assert process.poll() is None, process.stderr.read()
    assert time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGINT)
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 130, errors
  assert '--config.num_steps=1000000' in output.splitlines()[-1]
  assert errors == ''
  (step,) = saved_steps(tmp_path)
  assert read_metrics(tmp_path)[-1]['step'] == step


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bits(tmp_path):
  arguments = [
    '--config.num_steps=400',
    '--config.log_every_steps=10',
    '--config.sample_every_steps=200',
    '--config.checkpoint_every_steps=100',
    '--config.dataset.flip=True',
  ]
  straight = run_main(tmp_path / 'straight', *arguments)
  straight.communicate(timeout=120)
  assert straight.returncode == 0
  process = run_main(tmp_path / 'stopped', *arguments)
  while not process.stdout.readline().startswith('step '):
    assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 143
  assert 'Stopped by a signal and checkpointed' in output
  last = run_main(tmp_path / 'stopped', *arguments)
  output, _ = last.communicate(timeout=120)
  assert last.returncode == 0
  assert 'Resuming from step' in output
  assert_same_end(tmp_path / 'stopped', tmp_path / 'straight')
