"""The allocator keeps what a step frees."""

import os
import subprocess
import sys

import pytest

# The product x x^T is larger than a piece of an arena.
FAULTS = """
import resource
import sys
import jax
import jax.numpy as jnp
from common_flax.cpu import memory
if sys.argv[1] == 'keep':
  memory.keep_freed()
step = jax.jit(lambda x: (x @ x.T) @ x)
x = jnp.ones((4200, 1))
for i in range(20):
  if i == 10:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  x = step(x).block_until_ready() / 4200
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')
def test_a_step_takes_no_new_pages():
  environ = {**os.environ, 'JAX_PLATFORMS': 'cpu'}

  def faults(mode):
    command = [sys.executable, '-c', FAULTS, mode]
    return int(subprocess.check_output(command, env=environ))

  assert faults('keep') < faults('default') / 10
