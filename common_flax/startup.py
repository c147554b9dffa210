"""Imports that take less time, for commands that people wait for."""

from collections.abc import Iterator
import contextlib
import gc
import sys


@contextlib.contextmanager
def importing() -> Iterator[None]:
  """Imports without searching for garbage, of which there is none.

  To search takes a fourth of the time that JAX, Flax and Orbax take to import,
  and 0.2 s more when a step is compiled, unless their objects are left out of
  it from then on, as all others that there are already. Nothing changes for who
  has imported JAX.
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


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
  """Imports as if a package were not installed, unless it is imported already.

  Some packages import another, which takes seconds, for what is not needed.
  """
  if name in sys.modules:
    yield
    return
  sys.modules[name] = None
  try:
    yield
  finally:
    del sys.modules[name]
