"""Memory: how much there is, and that of a CPU's train step, which it keeps.

XLA allocates what a step works with anew each time. The C library's allocator
takes blocks of that size from the system and gives them back at once, so every
step would pay for each of their pages again, thousands of page faults.
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

# A thread allocates from an arena. The main thread's is the heap, which takes
# blocks of any size; the others consist of pieces of so many bytes.
_PIECE = 2**26
_NUM_ARENAS = 256


def keep_freed() -> None:
  """Lets a step run in the main thread, and what it frees stay, on a CPU.

  What a step allocates is in the heap only if the thread that calls it runs it
  too, which it can where there is one device. That is also quicker than to hand
  it over: the small steps of dense networks take two thirds of the time.

  The other threads have an arena each. Threads that share one wait for each
  other: with one for all, or 16, those that XLA compiles in did, and some first
  steps took a third longer.

  Called before JAX looks for devices.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if not sys.platform.startswith('linux'):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return
  mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap as well
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # which does not shrink
  mallopt(_M_TOP_PAD, _PIECE)  # nor do the arenas, by a piece
  mallopt(_M_ARENA_MAX, _NUM_ARENAS)


def total_bytes() -> float:
  """The memory of this machine; infinite where that cannot be told."""
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  except (AttributeError, OSError, ValueError):  # not POSIX
    return math.inf
