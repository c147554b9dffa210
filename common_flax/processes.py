"""The processes of one run, joined by JAX's multi-controller runtime.

Each process runs the same program, on the devices of its own machine. The first
alone writes, draws and judges; what it decides, the others are told.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import importlib.util
import os
import signal
import sys
import traceback
from typing import TypeVar

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

from common_flax.alarms import TrainingFailedError
from common_flax.config import UserError
from common_flax.signals import StoppedError

MODES = ('auto', 'on', 'off')
_TIMEOUT_SECONDS = 300  # until all processes are there
_USER_ERROR = 1  # no signal has this number that asks a run to stop

T = TypeVar('T')


def join(
  mode: str,
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Joins the other processes of the run, before anything uses a device.

  Args:
    mode: 'on', 'off', or 'auto': if the arguments say so, or the environment
      (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID), or a cluster
      that JAX knows.
    coordinator: HOST:PORT where the first process listens.
    num_processes: of the run.
    process_id: of this one, counted from 0.

  Raises:
    UserError: if the arguments are wrong, or too few.
    TrainingFailedError: if the processes do not find each other.
  """
  coordinator = coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS')
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
  except ValueError as error:  # nothing told it enough
    if mode == 'on':
      raise UserError(
        '--distributed=on: no cluster that JAX knows; give --coordinator, '
        f'--num_processes and --process_id ({error})'
      ) from error
  except RuntimeError as error:
    raise TrainingFailedError(
      f'{coordinator or "the cluster"}: the processes do not find each other: '
      f'{" ".join(str(error).split())[:300]}'
    ) from error
  else:
    # JAX's own handler would keep the signal to itself.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _given(name: str, value: int | None) -> int | None:
  """A flag, or else the environment's JAX_NAME."""
  variable = f'JAX_{name.upper()}'
  if value is not None or variable not in os.environ:
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
  """Refuses a part of what one process has to know of the others."""
  for name, value in (
    ('coordinator', coordinator),
    ('num_processes', num_processes),
    ('process_id', process_id),
  ):
    if value is None:
      raise UserError(
        f'--{name}: missing; --coordinator=HOST:PORT, --num_processes and '
        '--process_id are given together'
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
  """Whether to ask JAX which processes there are."""
  tasks = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')
  # A lone task, or a notebook in a Slurm job, has nobody to join.
  is_task = 'SLURM_PROCID' in os.environ or 'OMPI_COMM_WORLD_RANK' in os.environ
  many = is_task and any(os.environ.get(name, '1') != '1' for name in tasks)
  return many or importlib.util.find_spec('libtpu') is not None


def count() -> int:
  """How many there are."""
  return jax.process_count()


def is_first() -> bool:
  """Whether this one writes and decides."""
  return jax.process_index() == 0


def as_first_says(*numbers: int) -> list[int]:
  """The numbers that the first process gives, on all. All have to call it."""
  said = multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.int32))
  return [int(number) for number in said]


def wait_for_all(name: str) -> None:
  """Waits until every process has come here."""
  multihost_utils.sync_global_devices(name)


def together(prepare: Callable[[], T]) -> T:
  """What `prepare` returns, if it succeeds on every process.

  One that cannot go on would leave the others waiting for it.

  Raises:
    UserError: of this process, or naming one whose error it is.
    StoppedError: if a signal came to any of them.
  """
  reason = None
  try:
    result, code = prepare(), 0
  except UserError as error:
    reason, code = error, _USER_ERROR
  except StoppedError as error:
    reason, code = error, error.number
  codes = multihost_utils.process_allgather(np.int32(code)).reshape(-1)
  if reason:
    raise reason
  if max(codes) > _USER_ERROR:
    raise StoppedError(int(max(codes)))
  if max(codes):
    raise UserError(
      f'process {int(np.argmax(codes))} cannot start; see what it says'
    )
  return result


class Ballot:
  """Which signal any of the processes was sent, known to all of them at once.

  They stop at the same step only if they hear of it at the same step. Each call
  of `vote` sends a number out and returns the highest of the call before, so
  that no step waits for it.
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
    """Says `number`; returns the highest of all that was said before."""
    if count() == 1:
      return number
    before = self._result
    votes = np.full(jax.local_device_count(), number, np.int32)
    self._result = self._highest(
      jax.make_array_from_process_local_data(self._split, votes)
    )
    return 0 if before is None else int(before.addressable_data(0))


@contextlib.contextmanager
def only_first_speaks() -> Iterator[None]:
  """Keeps the standard output of all others to themselves."""
  with contextlib.ExitStack() as stack:
    if not is_first():
      nowhere = stack.enter_context(open(os.devnull, 'w'))
      stack.enter_context(contextlib.redirect_stdout(nowhere))
    yield


@contextlib.contextmanager
def failing_alone() -> Iterator[None]:
  """Ends a process of several at an error, without waiting for the others.

  They may be waiting for it, in a sum over all devices. What all of them raise
  goes its usual way.
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
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
