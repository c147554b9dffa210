"""The machine's memory, and an allocator that keeps it between train steps.

XLA allocates a step's buffers at every step. The C library's allocator takes
large blocks from the system and returns them as soon as they are freed, so each
step pays for all of their pages again: thousands of page faults.
"""

import ctypes
import math
import os
import sys

import jax

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

# Threads allocate from arenas. The main thread's arena is the heap, which takes
# blocks of any size; other arenas grow by pieces of this many bytes.
_PIECE = 2**26
_NUM_ARENAS = 256


def keep_freed() -> None:
  """Keeps freed memory, and runs steps in the thread that calls them.

  A step allocates from the heap only if the main thread runs it, which needs a
  single CPU device. Skipping the hand-over to another thread also saves time:
  the small steps of dense networks take two thirds as long.

  Every other thread gets an arena of its own. XLA's compiler threads waited for
  each other when they shared 1 or 16 arenas, and some first steps took a third
  longer.

  Call it before JAX looks for devices.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if not sys.platform.startswith('linux'):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return
  mallopt(_M_MMAP_MAX, 0)  # take large blocks from the heap as well
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # never shrink the heap
  mallopt(_M_TOP_PAD, _PIECE)  # nor other arenas, which shrink by pieces
  mallopt(_M_ARENA_MAX, _NUM_ARENAS)


def total_bytes() -> float:
  """Size of this machine's memory; infinite if unknown."""
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  except (AttributeError, OSError, ValueError):  # not POSIX
    return math.inf
