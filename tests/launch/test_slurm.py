"""The Slurm script, with stand-ins for srun and scontrol."""

import json
import signal
import stat
import subprocess
import sys
import time

from conftest import HASTY_COMPILER
import pytest
from stand_ins import LAUNCH
from stand_ins import Scripts

# Starts two tasks as Slurm does, and passes signals on to them.
SRUN = """#!{python}
import os, signal, subprocess, sys
arguments = [x for x in sys.argv[1:] if x != '--kill-on-bad-exit=1']
tasks = [
  subprocess.Popen(
    arguments,
    env={{
      **os.environ,
      'SLURM_STEP_NODELIST': '127.0.0.1',
      'SLURM_JOB_ID': '1234',
      'SLURM_NTASKS': '2',
      'SLURM_STEP_NUM_TASKS': '2',
      'SLURM_PROCID': str(i),
      'SLURM_LOCALID': str(i),
    }},
  )
  for i in range(2)
]
for number in (signal.SIGTERM, signal.SIGINT):
  signal.signal(number, lambda n, _: [task.send_signal(n) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.fixture
def scripts(tmp_path):
  return Scripts(tmp_path)


@pytest.fixture
def slurm(scripts):
  """Starts the batch script as in a Slurm job."""
  srun = scripts.folder / 'bin' / 'srun'
  srun.write_text(SRUN.format(python=sys.executable))
  srun.chmod(srun.stat().st_mode | stat.S_IXUSR)
  (scripts.folder / 'plan').write_text('[]')
  (scripts.folder / 'calls').write_text('')

  def start(*arguments, **environment):
    return subprocess.Popen(
      [LAUNCH / 'slurm.sbatch', *arguments],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=LAUNCH.parent,
      env={
        **scripts.environment,
        'SLURM_JOB_ID': '1234',
        'PYTHONPATH': str(LAUNCH.parent),
        **environment,
      },
    )

  return start


def program(body):
  """Returns the command of a task that runs Python code."""
  # One write per line, since both tasks write to one pipe.
  say = 'def say(*words): os.write(1, (" ".join(words) + "\\n").encode())'
  return (sys.executable, '-c', f'import os, sys, time, signal\n{say}\n{body}')


def test_tasks_get_the_command(slurm, scripts):
  process = slurm(*program("say(os.environ['SLURM_PROCID'], sys.argv[1])"))
  output, errors = process.communicate(timeout=60)
  assert process.returncode == 0, errors
  assert sorted(output.splitlines()) == [
    '0 --distributed=on',
    '1 --distributed=on',
  ]
  assert scripts.calls('requeue') == []


@pytest.mark.parametrize(
  ('status', 'is_requeued'),
  [
    (143, True),
    (137, True),  # killed while saving
    (0, False),  # it was on its last step
    (2, False),
  ],
)
def test_a_signal_reaches_every_task_and_the_job_is_requeued(
  slurm, scripts, status, is_requeued
):
  body = (
    'def stop(*_):\n'
    "  say('stopped', os.environ['SLURM_PROCID'])\n"
    f'  sys.exit({status})\n'
    'signal.signal(signal.SIGTERM, stop)\n'
    "say('ready')\n"
    # A signal just before a long sleep would be handled after it.
    'for _ in range(600): time.sleep(0.1)\n'
  )
  process = slurm(*program(body))
  assert [process.stdout.readline() for _ in range(2)] == ['ready\n'] * 2
  process.send_signal(signal.SIGTERM)
  output, errors = process.communicate(timeout=60)
  assert sorted(output.split()) == ['0', '1', 'stopped', 'stopped'], errors
  assert process.returncode == status
  requeued = ['scontrol requeue 1234'] if is_requeued else []
  assert scripts.calls() == requeued


@pytest.mark.parametrize(('status', 'is_requeued'), [(143, True), (2, False)])
def test_only_a_stopped_job_is_requeued(slurm, scripts, status, is_requeued):
  process = slurm(*program(f'sys.exit({status})'))
  process.communicate(timeout=60)
  assert process.returncode == status
  assert bool(scripts.calls('requeue')) == is_requeued


def test_a_dry_run_prints_and_calls_nothing(slurm, scripts):
  process = slurm('--dry-run', 'python', '-m', 'gan_flax.main', 'a b')
  output, _ = process.communicate(timeout=60)
  assert output == (
    'srun --kill-on-bad-exit=1 python -m gan_flax.main a\\ b --distributed=on '
    '\n'
  )
  assert scripts.calls() == []


def test_a_missing_command_is_named(slurm):
  process = slurm()
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 2
  assert errors.startswith('error: no command; ')


@pytest.mark.slow
def test_a_run_of_two_tasks_is_stopped_requeued_and_resumed(
  slurm, scripts, tmp_path
):
  """JAX finds the other process through Slurm's environment variables."""
  workdir = tmp_path / 'run'

  def train(num_steps):
    return slurm(
      sys.executable,
      '-m',
      'gan_flax.main',
      '--config=configs/ring.py:smoke',
      f'--workdir={workdir}',
      '--config.num_seeds=1',
      f'--config.num_steps={num_steps}',
      '--config.generator.schedule=constant',
      '--config.discriminator.schedule=constant',
      '--config.steps_per_call=1',
      '--config.log_every_steps=5',
      JAX_PLATFORMS='cpu',
      XLA_FLAGS=HASTY_COMPILER,
    )

  process = train(1_000_000)
  metrics = workdir / 'metrics.jsonl'
  deadline = time.monotonic() + 120
  while not metrics.exists() or metrics.read_text().count('\n') < 2:
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 143, errors
  assert output.count('of 2 processes') == 1  # only one of them prints
  assert scripts.calls() == ['scontrol requeue 1234']
  step = json.loads(metrics.read_text().splitlines()[-1])['step']
  process = train(step + 5 - step % 5)
  output, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  assert f'Resuming from step {step:,}' in output
