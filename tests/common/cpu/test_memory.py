"""The allocator keeps what a step frees."""

import os
import subprocess
import sys

import pytest

# The product x x^T is larger than a piece of an arena.
FAULTS = """
import resource
import statistics
import sys
import jax
import jax.numpy as jnp
from common_flax.cpu import memory
if sys.argv[1] == 'keep':
  memory.keep_freed()
step = jax.jit(lambda x: (x @ x.T) @ x)
def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
x = jnp.ones((4200, 1))
of_steps = []
for _ in range(20):
  before = faults()
  x = step(x).block_until_ready() / 4200
  of_steps.append(faults() - before)
print(statistics.median_high(of_steps[10:]))
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')
def test_a_step_takes_no_new_pages():
  environ = {**os.environ, 'JAX_PLATFORMS': 'cpu'}

  def faults_of_a_step(mode):
    command = [sys.executable, '-c', FAULTS, mode]
    return int(subprocess.check_output(command, env=environ))

  # A whole step's pages are 17,000. The median, since now and then a thread of
  # the runtime takes a small block out of what a step has left, and the next
  # step needs new pages once.
  assert faults_of_a_step('keep') < faults_of_a_step('default') / 100
