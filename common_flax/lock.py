"""One run at a time in a workdir.

A run writes its name into the workdir and touches it now and then. What another
run finds there is stale if its process is gone, or, where that cannot be seen
from here, if nobody touches it for a minute: a machine that was taken away
leaves its lock behind.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import secrets
import socket
import threading
import time

from etils import epath

from common_flax import files
from common_flax import images as images_lib
from common_flax import workdir as workdir_lib
from common_flax.config import UserError

NAME = 'lock.json'
BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_SETTLE_SECONDS = 0.5  # in which of several that find it stale one remains


def _read_system(path: str) -> str:
  try:
    return pathlib.Path(path).read_text().strip()
  except OSError:  # not Linux, or no such process
    return ''


def _machine() -> str:
  """Where process numbers mean the same: a container has its own."""
  namespace = ''
  with contextlib.suppress(OSError):
    namespace = os.readlink('/proc/self/ns/pid')
  boot = _read_system('/proc/sys/kernel/random/boot_id')
  return f'{socket.gethostname()} {boot} {namespace}'


def _started(pid: int) -> str | None:
  """When a living process of this machine began, as the system tells it."""
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return None
  except OSError:  # of another user
    pass
  # What follows the name, which may hold anything.
  fields = _read_system(f'/proc/{pid}/stat').rpartition(')')[2].split()
  if fields and fields[0] in 'ZX':  # dead, and not yet buried
    return None
  return fields[19] if fields else ''


def _read(path: epath.Path) -> dict | None:
  """The holder, or None if there is none that can be read."""
  try:
    holder = json.loads(path.read_text())
  except (OSError, ValueError):
    return None
  return holder if isinstance(holder, dict) else {}


def _is_alive(path: epath.Path, holder: dict) -> bool:
  """Whether the holder still runs, which may take a minute to find out."""
  if holder.get('machine') == _machine():
    return _started(holder.get('pid', 0)) == holder.get('started')
  print(
    f'{path}: held by {_name(holder)}; waiting {STALE_SECONDS:.0f} s for a '
    'sign of life'
  )
  deadline = time.monotonic() + STALE_SECONDS
  while time.monotonic() < deadline:
    time.sleep(min(1.0, STALE_SECONDS))
    now = _read(path)
    if now is not None and now != holder:
      return True
  return False


def _name(holder: dict) -> str:
  machine = str(holder.get('machine', 'an unknown machine')).split(' ')[0]
  return f'process {holder.get("pid", "?")} on {machine}'


def _take(path: epath.Path, me: dict) -> None:
  """Writes our name, unless somebody lives here.

  Raises:
    UserError: naming the process that holds the workdir.
  """
  holder = _read(path) if path.exists() else None
  if holder is not None and _is_alive(path, holder):
    raise UserError(
      f'--workdir={path.parent}: {_name(holder)} trains in it; wait for it, '
      'stop it, or take another workdir'
    )
  if holder is not None:
    print(f'{path}: left behind by {_name(holder)}; taken over.')
  elif _create(path, me):
    return
  _write(path, me)
  time.sleep(_SETTLE_SECONDS)
  holder = _read(path) or {}
  if holder.get('token') != me['token']:
    raise UserError(
      f'--workdir={path.parent}: {_name(holder)} began to train in it at the '
      'same moment; take another workdir'
    )


def _create(path: epath.Path, me: dict) -> bool:
  """Writes our name if there is none, at once; False if that cannot be."""
  if files.is_remote(path):
    return False
  mine = path.with_name(f'.{path.name}.{me["token"]}')
  try:
    mine.write_text(json.dumps(me))
    os.link(mine, path)
  except OSError:  # somebody was faster, or it is no file system
    return False
  finally:
    mine.unlink(missing_ok=True)
  return True


def _write(path: epath.Path, me: dict) -> None:
  images_lib.write_bytes(path, json.dumps(me).encode())


@contextlib.contextmanager
def held(workdir: epath.PathLike) -> Iterator[None]:
  """Holds a workdir, which exists.

  Raises:
    UserError: if another run holds it, or it cannot be written to.
  """
  path = epath.Path(workdir) / NAME
  pid = os.getpid()
  me = {
    'machine': _machine(),
    'pid': pid,
    'started': _started(pid),
    'token': secrets.token_hex(8),
    'beats': 0,
  }
  with workdir_lib.writing(f'--workdir={workdir}'):
    _take(path, me)
  stopped = threading.Event()

  def beat() -> None:
    while not stopped.wait(BEAT_SECONDS):
      me['beats'] += 1
      try:
        _write(path, me)
      except Exception as error:  # a full disk is no reason to stop
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
