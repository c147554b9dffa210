"""Training on a GPU: as on a CPU, and resumed bit for bit.

Deselected by default, as slow tests are: run them with `pytest -m gpu`. The
programs run as processes of their own, because this one is bound to the CPU.
"""

import functools
import json
import os
import subprocess
import sys

from conftest import assert_same_arrays
from conftest import ROOT
from conftest import saved_steps
import pytest
from saved_arrays import arrays_of

pytestmark = pytest.mark.gpu

DETERMINISTIC = '--xla_gpu_deterministic_ops=true'


def python(*arguments, **variables):
  """Runs Python with JAX's own choice of platforms."""
  names = ('JAX_PLATFORMS', 'XLA_FLAGS')
  env = {k: v for k, v in os.environ.items() if k not in names}
  path = os.pathsep.join([str(ROOT), env.get('PYTHONPATH', '')])
  return subprocess.run(
    [sys.executable, *arguments],
    check=False,
    cwd=ROOT,
    env=env | {'PYTHONPATH': path} | variables,
    capture_output=True,
    text=True,
  )


@functools.cache
def without_gpu():
  """Why there is no GPU; '' if there is one."""
  done = python('-c', 'import jax; jax.devices("gpu")')
  return done.stderr.strip().splitlines()[-1] if done.returncode else ''


@pytest.fixture(autouse=True)
def gpu():
  if reason := without_gpu():
    pytest.skip(f'no GPU: {reason}')


@pytest.mark.parametrize('family', ['gan', 'vae'])
@pytest.mark.parametrize(
  ('compute_dtype', 'num_steps', 'name', 'limit'),
  [
    ('float32', 1, 'gradients', 1e-5),
    ('float64', 20, 'parameters', 1e-9),
  ],
)
def test_a_gpu_and_a_cpu_take_the_same_steps(
  family, compute_dtype, num_steps, name, limit
):
  program = ['tests/gpu/both_platforms.py', family, compute_dtype]
  done = python(
    *program,
    str(num_steps),
    JAX_ENABLE_X64=str(int(compute_dtype == 'float64')),
  )
  assert not done.returncode, done.stderr
  assert json.loads(done.stdout)[name] <= limit


@pytest.mark.parametrize(
  ('family', 'recipe'), [('gan', 'dcgan'), ('vae', 'vae')]
)
def test_a_run_on_a_gpu_resumes_bit_for_bit(tmp_path, family, recipe):
  def train(workdir, num_steps):
    done = python(
      '-m',
      f'{family}_flax.main',
      f'--config=configs/{recipe}.py:smoke',
      f'--config.num_steps={num_steps}',
      f'--workdir={workdir}',
      XLA_FLAGS=DETERMINISTIC,
    )
    assert not done.returncode, done.stderr
    assert 'cpu' not in done.stdout.partition('Training on')[2][:20]

  straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
  train(straight, 8)
  train(resumed, 4)
  train(resumed, 8)
  assert saved_steps(resumed)[-1] == saved_steps(straight)[-1] == 8
  assert_same_arrays(arrays_of(resumed, 8), arrays_of(straight, 8))
