"""The allocator keeps what a step frees."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys
import numpy as np
from common_flax import memory
if sys.argv[1] == 'keep':
  memory.keep_freed()
for i in range(10):
  if i == 5:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  np.full(2**26, i, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='glibc only')
def test_memory_that_comes_back_has_its_pages_still():
  def faults(mode):
    command = [sys.executable, '-c', FAULTS, mode]
    return int(subprocess.check_output(command))

  assert faults('keep') < faults('default') / 10
