"""Starts the processes of a run on this machine."""

import os
import subprocess
import sys

from conftest import free_address
from conftest import HASTY_COMPILER
from conftest import ROOT


def start(arguments, num_devices, **environment):
  """Starts a Python process with `num_devices` virtual devices."""
  return subprocess.Popen(
    [sys.executable, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={
      **os.environ,
      'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}',
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': str(num_devices),
      'XLA_FLAGS': HASTY_COMPILER,
      **environment,
    },
  )


def commands(arguments, num_processes, num_devices, **environment):
  """Starts the processes of a training command, joined in one run."""
  address = free_address()
  return [
    start(
      [
        *arguments,
        f'--coordinator={address}',
        f'--num_processes={num_processes}',
        f'--process_id={i}',
      ],
      num_devices,
      **environment,
    )
    for i in range(num_processes)
  ]


def finish(processes, status=0, timeout=300):
  """Waits for processes; returns the (stdout, stderr) of each."""
  outputs = []
  try:
    for process in processes:
      outputs.append(process.communicate(timeout=timeout))
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  statuses = [process.returncode for process in processes]
  assert statuses == [status] * len(processes), outputs
  return outputs
