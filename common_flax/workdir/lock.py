"""One run at a time in a workdir.

A run writes its name to `lock.json`. In a local workdir it also holds the
kernel's lock on that file, which ends with the process. Object stores have no
locks: there the run rewrites the file every few seconds. Another run takes over
at once if the process is known to be dead on the same machine, otherwise if the
file has not changed for a minute.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import json
import os
import pathlib
import secrets
import socket
import stat
import threading
import time

from etils import epath

from common_flax import files
from common_flax.errors import UserError
from common_flax.workdir import layout

NAME = 'lock.json'
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_SETTLE_SECONDS = 0.5  # until the last of several simultaneous writes is seen
# Errors of network file systems that were mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_MAX_BYTES = 4096

_descriptors: set[int] = set()  # open files whose lock this process holds


def _close_in_child() -> None:
  """Closes inherited files: a fork would keep their locks alive."""
  for descriptor in _descriptors:
    os.close(descriptor)
  _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)


@contextlib.contextmanager
def held(workdir: epath.PathLike) -> Iterator[None]:
  """Holds an existing workdir.

  Raises:
    UserError: if another run holds it, or it cannot be written to.
  """
  path = epath.Path(workdir) / NAME
  with contextlib.ExitStack() as stack:
    with layout.writing(f'--workdir={workdir}'):
      _enter(stack, path)
    yield


def _enter(stack: contextlib.ExitStack, path: epath.Path) -> None:
  if not files.is_remote(path):
    try:
      stack.enter_context(_locked(path))
      return
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
  stack.enter_context(_leased(path))


def _me() -> dict[str, str | int]:
  return {'machine': socket.gethostname(), 'pid': os.getpid()}


def _parse(text: str | bytes) -> dict:
  """The holder that a lock file names; {} if it was damaged."""
  try:
    holder = json.loads(text)
  except (ValueError, RecursionError):
    return {}
  return holder if isinstance(holder, dict) else {}


def _name(holder: dict) -> str:
  pid, machine = holder.get('pid'), holder.get('machine')
  pid = pid if isinstance(pid, int) else '?'
  machine = machine if isinstance(machine, str) else 'an unknown machine'
  return files.one_line(f'process {pid} on {machine}')


def _refused(path: epath.Path, holder: dict) -> UserError:
  return UserError(
    f'--workdir={path.parent}: {_name(holder)} trains in it; wait for it, '
    'stop it, or use another workdir'
  )


def _announce_takeover(path: epath.Path, holder: dict) -> None:
  print(f'{path}: left behind by {_name(holder)}; taken over.')


@contextlib.contextmanager
def _locked(path: epath.Path) -> Iterator[None]:
  """Holds the kernel's lock on a local file, which is removed afterwards."""
  descriptor = _open_locked(path)
  _descriptors.add(descriptor)
  try:
    left_behind = os.read(descriptor, _MAX_BYTES)
    if left_behind:
      _announce_takeover(path, _parse(left_behind))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(_me()).encode(), 0)
    yield
  finally:
    if descriptor in _descriptors:  # else a forked child passes here
      _descriptors.remove(descriptor)
      with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
      os.close(descriptor)


def _open_locked(path: epath.Path) -> int:
  """Opens a file, made if missing, and takes its lock."""
  while True:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
      if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(f'{path} is not a regular file')  # a pipe would block
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_at(path, descriptor):
        return descriptor
    except BlockingIOError as error:
      holder = _parse(os.read(descriptor, _MAX_BYTES))
      os.close(descriptor)
      raise _refused(path, holder) from error
    except OSError:
      os.close(descriptor)
      raise
    os.close(descriptor)


def _is_at(path: epath.Path, descriptor: int) -> bool:
  """Whether `path` is the open file; an earlier holder may have removed it."""
  try:
    return os.path.samestat(os.stat(path), os.fstat(descriptor))
  except FileNotFoundError:
    return False


@contextlib.contextmanager
def _leased(path: epath.Path) -> Iterator[None]:
  """Holds a file by rewriting it again and again; removes it afterwards."""
  me = {
    **_me(),
    'boot': _boot(),
    'started': _start_time(os.getpid()),
    'token': secrets.token_hex(8),
    'beats': 0,
  }
  _take(path, me)
  stopped = threading.Event()

  def beat() -> None:
    while not stopped.wait(BEAT_SECONDS):
      me['beats'] += 1
      try:
        _write(path, me)
      except Exception as error:  # the run outlives a store that is away
        if not files.is_file_error(error):
          raise

  thread = threading.Thread(target=beat, name='lock', daemon=True)
  thread.start()
  try:
    yield
  finally:
    stopped.set()
    thread.join()
    with contextlib.suppress(OSError):
      path.unlink(missing_ok=True)


def _take(path: epath.Path, me: dict) -> None:
  """Writes our name, unless another run keeps rewriting the file.

  Raises:
    UserError: naming the process that holds the workdir.
  """
  holder = _read(path)
  if holder and _is_dead(holder):
    _announce_takeover(path, holder)
  elif holder:
    print(
      f'{path}: held by {_name(holder)}; waiting {STALE_SECONDS:.0f} s for a '
      'sign of life'
    )
    if _changes(path, holder):
      raise _refused(path, holder)
    _announce_takeover(path, holder)
  _write(path, me)
  time.sleep(_SETTLE_SECONDS)
  holder = _read(path)
  if holder.get('token') != me['token']:
    raise UserError(
      f'--workdir={path.parent}: {_name(holder)} began to train in it at the '
      'same moment; use another workdir'
    )


def _is_dead(holder: dict) -> bool:
  """Whether the holder ran on this machine and its process has ended."""
  pid = holder.get('pid')
  if holder.get('boot') != _boot() or not isinstance(pid, int):
    return False
  return _start_time(pid) != holder.get('started')


def _boot() -> str:
  """Where and since when process numbers mean the same."""
  namespace = ''
  with contextlib.suppress(OSError):  # a container has its own
    namespace = os.readlink('/proc/self/ns/pid')
  return f'{_read_system("/proc/sys/kernel/random/boot_id")} {namespace}'


def _start_time(pid: int) -> str | None:
  """When a process of this machine started; None if it does not run."""
  # The name in parentheses may hold anything.
  fields = _read_system(f'/proc/{pid}/stat').rpartition(')')[2].split()
  return None if not fields or fields[0] in 'ZX' else fields[19]


def _read_system(path: str) -> str:
  try:
    return pathlib.Path(path).read_text().strip()
  except OSError:  # not Linux, or no such process
    return ''


def _changes(path: epath.Path, holder: dict) -> bool:
  """Whether the file changes within STALE_SECONDS."""
  deadline = time.monotonic() + STALE_SECONDS
  while time.monotonic() < deadline:
    time.sleep(min(1.0, STALE_SECONDS))
    if _read(path) not in ({}, holder):
      return True
  return False


def _read(path: epath.Path) -> dict:
  """The holder; {} if there is no file, or a damaged one."""
  try:
    return _parse(files.read_bytes(path, _MAX_BYTES))
  except (OSError, ValueError):
    return {}


def _write(path: epath.Path, me: dict) -> None:
  files.write_bytes(path, json.dumps(me).encode())
