"""Memory: how much there is, and that of a CPU's train step, which it keeps.

XLA allocates what a step works with anew each time. The C library's allocator
takes blocks of that size from the system and gives them back at once, so every
step would pay for each of their pages again, thousands of page faults.
"""

import ctypes
import math
import os
import sys

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def keep_freed() -> None:
  """Lets freed memory stay with this process, where the C library is glibc.

  Called before other threads allocate; afterwards it does no harm, but those
  keep arenas of their own.
  """
  if not sys.platform.startswith('linux'):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return
  mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap as well
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # which does not shrink
  mallopt(_M_ARENA_MAX, 1)  # and is one for all threads


def total_bytes() -> float:
  """The memory of this machine; infinite where that cannot be told."""
  try:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  except (AttributeError, OSError, ValueError):  # not POSIX
    return math.inf
