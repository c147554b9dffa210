"""How XLA's loops over train steps are written out on a CPU."""

import jax


def unroll(*, is_convolutional: bool) -> bool | int:
  """The `unroll` argument of a loop over train steps.

  Inside a loop, XLA for CPUs runs convolutions on a single thread, so such
  steps are all written out. Dense networks loop over pairs of steps: what the
  second step draws fills the gaps of the first.
  """
  if jax.default_backend() != 'cpu':
    return 1
  return True if is_convolutional else 2
