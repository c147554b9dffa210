"""Times several programs in turns, so that a busy machine troubles them alike.

Each contender lives in a process of its own, as its users would run it: its
threads, its allocator and its settings disturb nobody else. In every round each
of them runs a few steps while the others sleep; what is compared is the ratio
within a round.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import json
import multiprocessing
from multiprocessing.connection import Connection
import os
import pathlib
import platform
import time
from typing import Any

import jax
import numpy as np

Run = Callable[[int], None]  # runs that many steps to the end
Build = Callable[[], Run]  # sets a contender up, in its own process


def repeating(
  steps: Callable, state: Any, *arguments: Any, steps_per_call: int = 1
) -> Run:
  """Runs `steps(state, *arguments) -> (state, metrics)` again and again.

  It takes whole calls: where `steps_per_call` does not divide the number of
  steps, it takes more than it is asked for.
  """

  def run(num_steps: int) -> None:
    nonlocal state
    for _ in range(-(-num_steps // steps_per_call)):
      state, _ = steps(state, *arguments)
    jax.block_until_ready(state)

  return run


def _serve(build: Build, connection: Connection) -> None:
  """A contender's process: sets up, then runs what it is asked to."""
  try:
    run = build()
    run(2)  # compiles, and fills caches
    connection.send(None)
  except Exception as error:  # reported by the parent
    connection.send(f'{type(error).__name__}: {error}')
    return
  while num_steps := connection.recv():
    run(1)  # wakes threads up
    start = time.perf_counter()
    run(num_steps)
    connection.send((time.perf_counter() - start) / num_steps)


@dataclasses.dataclass
class _Contender:
  process: multiprocessing.Process
  connection: Connection


def _start(build: Build) -> _Contender:
  context = multiprocessing.get_context('spawn')
  connection, remote = context.Pipe()
  process = context.Process(target=_serve, args=(build, remote), daemon=True)
  process.start()
  remote.close()
  return _Contender(process, connection)


def time_in_turns(
  builds: Mapping[str, Build],
  rounds: int,
  num_steps: int,
  say: Callable[[str], None] = print,
) -> dict[str, list[float]]:
  """Seconds a step in each round, by contender.

  Args:
    builds: picklable functions; one that raises is left out, and said so.
    rounds: how often each takes its turn.
    num_steps: steps in a turn, after one that does not count.
    say: hears of contenders that cannot run.
  """
  # Else the first process on a GPU would take most of its memory.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  contenders = {}
  for name, build in builds.items():  # one after the other: no crowd
    contender = _start(build)
    try:
      error = contender.connection.recv()
    except EOFError:
      error = 'its process died'
    if error:
      say(f'{name}: left out: {error.splitlines()[0][:200]}')
      continue
    contenders[name] = contender
  seconds = {name: [] for name in contenders}
  for _ in range(rounds):
    for name, contender in contenders.items():
      contender.connection.send(num_steps)
      seconds[name].append(contender.connection.recv())
  for contender in contenders.values():
    contender.connection.send(0)
    contender.process.join()
  return seconds


def ratio(
  seconds: Mapping[str, Sequence[float]], slow: str, fast: str
) -> tuple[float, float, float]:
  """How many times as fast `fast` is: median and quartiles over the rounds."""
  ratios = np.array(seconds[slow]) / np.array(seconds[fast])
  low, median, high = np.percentile(ratios, (25, 50, 75))
  return float(median), float(low), float(high)


def machine() -> str:
  """The processor, its number of cores, accelerators, and today's date."""
  name = platform.processor() or platform.machine()
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  if cpuinfo.exists():
    for line in cpuinfo.read_text().splitlines():
      if line.startswith('model name'):
        name = line.partition(':')[2].strip()
        break
  parts = [name, f'{os.cpu_count()} cores']
  if jax.default_backend() != 'cpu':
    parts.append(f'{jax.device_count()} x {jax.devices()[0].device_kind}')
  return ', '.join([*parts, datetime.date.today().isoformat()])


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A Markdown table; all columns but the first are numbers."""
  marks = ['---', *['---:'] * (len(header) - 1)]
  lines = [header, marks, *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_json(path: str, result: Any) -> None:
  """Writes a result to a file, its folder made if missing."""
  file = pathlib.Path(path)
  file.parent.mkdir(parents=True, exist_ok=True)
  file.write_text(json.dumps(result, indent=2) + '\n')
