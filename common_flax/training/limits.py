"""Checks that a run fits the devices and the memory of this machine."""

import math
from typing import Any

import jax
from ml_collections import ConfigDict

from common_flax.config import flatten
from common_flax.config import require
from common_flax.cpu import memory
from common_flax.distributed import processes
from common_flax.errors import UserError
from common_flax.training.inputs import Inputs


def check_devices(
  config: ConfigDict, num_seeds: int, is_resumed: bool = False
) -> None:
  """Checks that batches split over the devices and that several seeds can run.

  Args:
    config: the run's config.
    num_seeds: runs trained at once.
    is_resumed: whether the run began earlier; its `on_save_error` is then
      accepted.

  Raises:
    UserError: naming the invalid field.
  """
  num_devices = jax.device_count()
  # With several seeds, the devices share the runs, not their batches.
  require(
    num_seeds > 1 or config.batch_size % num_devices == 0,
    config,
    'batch_size',
    f'must be divisible by the {num_devices} devices',
  )
  require(
    num_seeds == 1 or processes.count() == 1,
    config,
    'num_seeds',
    'several runs at once need a single process; start each process with '
    '--distributed=off and its own seeds',
  )
  require(
    is_resumed or config.on_save_error == 'stop' or processes.count() == 1,
    config,
    'on_save_error',
    'several processes always stop, to agree on what is saved; remove it',
  )
  require(
    num_seeds == 1 or config.on_nan in ('stop', 'warn'),
    config,
    'on_nan',
    "several runs at once cannot skip or go back; use 'stop' or 'warn'",
  )


def require_memory(fields: str, num_bytes: int) -> None:
  """Checks a size against the total memory of this machine.

  Args:
    fields: the config fields that determine the size, with their values.
    num_bytes: the size on this machine.

  Raises:
    UserError: if the memory is too small; names the fields.
  """
  total = memory.total_bytes()
  if jax.default_backend() != 'cpu':
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    total = max(total, sum(s.get('bytes_limit', math.inf) for s in stats))
  if num_bytes > total:
    raise UserError(
      f'{fields}: needs at least {num_bytes / 2**30:,.1f} GiB of memory, and '
      f'this machine has {total / 2**30:,.1f} GiB; reduce the size'
    )


def _sizes(config: ConfigDict) -> str:
  """Lists the fields that determine the size of the state."""
  return ', '.join(
    f'config.{name}={value}'
    for name, value in flatten(config).items()
    if name.endswith(('_size', '_sizes', '_features', 'num_seeds'))
    and name != 'batch_size'
  )


def check_fits(config: ConfigDict, state: Any, inputs: Inputs) -> None:
  """Checks that the model and its batches fit into this machine.

  Args:
    config: the run's config.
    state: shapes and types of the state.
    inputs: the run's inputs.

  Raises:
    UserError: if the memory is too small; names the fields.
  """
  leaves = jax.tree.leaves(state)
  require_memory(
    _sizes(config),
    sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves),
  )
  require_memory(
    f'config.batch_size={config.batch_size}, for all steps of a call',
    config.steps_per_call * inputs.bytes_per_step // processes.count(),
  )
