"""A quick start of long commands."""

from collections.abc import Iterator
import contextlib
import gc
import sys


@contextlib.contextmanager
def importing() -> Iterator[None]:
  """Imports without searching for garbage, of which there is none.

  To search takes a fourth of the time that JAX, Flax and Orbax take to import,
  and 0.2 s more when a step is compiled, unless their objects are left out.
  Nothing changes for who has JAX already.
  """
  if 'jax' in sys.modules or not gc.isenabled():
    yield
    return
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    gc.enable()
