"""The processes of one run, joined by JAX's multi-controller runtime.

Each process runs the same program on the devices of its own machine. Only the
first one writes files and evaluates; it broadcasts its decisions to the others.
"""

from collections.abc import Iterator
import contextlib
import importlib.util
import os
import signal
import sys
import traceback

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from common_flax import output
from common_flax.errors import StoppedError
from common_flax.errors import TrainingFailedError
from common_flax.errors import UserError

MODES = ('auto', 'on', 'off')
_TIMEOUT_SECONDS = 300  # until all processes have joined
_USER_ERROR = -1  # the signals that stop a run have positive numbers


def join(
  mode: str,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the other processes of the run, before anything uses a device.

  Args:
    mode: 'on', 'off', or 'auto': join if there are arguments, environment
      variables (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID) or
      a cluster that JAX detects.
    coordinator: HOST:PORT on which the first process listens.
    num_processes: number of processes of the run.
    process_id: number of this process, from 0.

  Raises:
    UserError: if arguments are wrong or missing.
    TrainingFailedError: if the processes cannot reach each other.
  """
  coordinator = coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS') or None
  num_processes = _given('num_processes', num_processes)
  process_id = _given('process_id', process_id)
  given = (coordinator, num_processes, process_id)
  is_given = any(value is not None for value in given)
  if mode == 'off' or (mode == 'auto' and not is_given and not _in_cluster()):
    return
  if is_given:
    _check(coordinator, num_processes, process_id)
  try:
    jax.distributed.initialize(
      *given, initialization_timeout=_TIMEOUT_SECONDS, local_device_ids=None
    )
  except ValueError as error:  # a setting is missing
    if mode == 'on':
      raise UserError(
        '--distributed=on: JAX detects no cluster; give --coordinator, '
        f'--num_processes and --process_id ({error})'
      ) from error
  except RuntimeError as error:
    raise TrainingFailedError(
      f'{coordinator or "the cluster"}: the processes cannot reach each other: '
      f'{" ".join(str(error).split())[:300]}'
    ) from error
  else:
    # JAX's handler would swallow the signal.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _given(name: str, value: int | None) -> int | None:
  """The value of a flag, or of the environment variable JAX_NAME."""
  variable = f'JAX_{name.upper()}'
  if value is not None or not os.environ.get(variable):
    return value
  try:
    return int(os.environ[variable])
  except ValueError as error:
    raise UserError(
      f'{variable}={os.environ[variable]!r}: give a number'
    ) from error


def _check(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Checks that all three settings are given, and valid."""
  for name, value in (
    ('coordinator', coordinator),
    ('num_processes', num_processes),
    ('process_id', process_id),
  ):
    if value is None:
      raise UserError(
        f'--{name}: missing; give --coordinator=HOST:PORT, --num_processes '
        'and --process_id together'
      )
  host, colon, port = coordinator.rpartition(':')
  if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
    raise UserError(f'--coordinator={coordinator}: give HOST:PORT')
  if num_processes < 1:
    raise UserError(f'--num_processes={num_processes}: must be at least 1')
  if not 0 <= process_id < num_processes:
    raise UserError(
      f'--process_id={process_id}: must be from 0 to {num_processes - 1}'
    )


def _in_cluster() -> bool:
  """Whether JAX can detect the processes of a cluster."""
  tasks = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')
  # A lone task, or a notebook in a Slurm job, has no other process to join.
  is_task = 'SLURM_PROCID' in os.environ or 'OMPI_COMM_WORLD_RANK' in os.environ
  many = is_task and any(os.environ.get(name, '1') != '1' for name in tasks)
  return many or importlib.util.find_spec('libtpu') is not None


def without_device() -> str | None:
  """A line that says why JAX has no device, or None if it has one."""
  try:
    jax.devices()
  except Exception as error:  # a bare AssertionError, for example
    reason = f'JAX has no device to run on{f" ({error})" if str(error) else ""}'
    for name in ('JAX_PLATFORMS', 'JAX_PLATFORM_NAME'):
      if os.environ.get(name):
        return (
          f'{name}={os.environ[name]}: {reason}; unset it, or install JAX for '
          "this platform, such as pip install 'jax[cuda13]'"
        )
    return reason
  return None


def count() -> int:
  """Number of processes."""
  return jax.process_count()


def is_first() -> bool:
  """Whether this process writes and decides."""
  return jax.process_index() == 0


def as_first_says(*numbers: int) -> list[int]:
  """Broadcasts the first process's numbers; every process must call this."""
  numbers = multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.int32))
  return [int(number) for number in numbers]


def wait_for_all(name: str) -> None:
  """Waits until every process has called this with the same name."""
  multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Raises on every process, after the body, if it failed on any of them.

  Otherwise the others would wait for the failed process forever.

  Raises:
    UserError: of this process, or naming the process that failed.
    StoppedError: if any process received a signal.
  """
  reason, code = None, 0
  try:
    yield
  except UserError as error:
    reason, code = error, _USER_ERROR
  except StoppedError as error:
    reason, code = error, error.number
  codes = multihost_utils.process_allgather(np.int32(code)).reshape(-1)
  if reason:
    raise reason
  if max(codes) > 0:
    raise StoppedError(int(max(codes)))
  if min(codes) < 0:
    raise UserError(
      f'process {int(np.argmin(codes))} cannot start; see what it says'
    )


class Ballot:
  """Tells all processes at the same step which signal any of them received.

  Processes must stop at the same step. Each call of `vote` sends a number and
  returns the highest number of the previous call, so that no step waits for the
  exchange.
  """

  def __init__(self):
    self._mesh = Mesh(
      np.asarray(jax.devices()), ('data',), axis_types=(AxisType.Auto,)
    )
    self._split = NamedSharding(self._mesh, PartitionSpec('data'))
    self._highest = jax.jit(
      lambda votes: votes.max(),
      out_shardings=NamedSharding(self._mesh, PartitionSpec()),
    )
    self._result: jax.Array | None = None

  def vote(self, number: int) -> int:
    """Sends `number`; returns the highest number of the previous call."""
    if count() == 1:
      return number
    previous = self._result
    votes = np.full(jax.local_device_count(), number, np.int32)
    self._result = self._highest(
      jax.make_array_from_process_local_data(self._split, votes)
    )
    return 0 if previous is None else int(previous.addressable_data(0))


@contextlib.contextmanager
def only_first_speaks() -> Iterator[None]:
  """Silences the standard output of all processes but the first."""
  with contextlib.ExitStack() as stack:
    if not is_first():
      nowhere = stack.enter_context(open(os.devnull, 'w'))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    yield


@contextlib.contextmanager
def failing_alone() -> Iterator[None]:
  """Ends this process at once if it fails while others run.

  The others may be waiting for it in a sum over all devices, so it must not
  wait for them. Errors that all processes raise together propagate as usual.
  """
  try:
    yield
  except (UserError, StoppedError):
    raise
  except Exception as error:
    if count() == 1:
      raise
    if isinstance(error, TrainingFailedError):
      print(f'error: {error}', file=sys.stderr)
    else:
      traceback.print_exc()
    output.finish()
    os._exit(1)
