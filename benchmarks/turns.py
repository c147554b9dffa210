"""Times several programs in turns, so other load slows them all alike.

Each contender runs in its own process, as its users would run it, so its
threads, allocator and settings do not disturb the others. In every round each
contender runs a few steps while the others sleep. Ratios are taken within a
round.
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

Run = Callable[[int], None]  # runs a number of steps and waits for them
Build = Callable[[], Run]  # sets up a contender in its own process


def repeating(
  steps: Callable, state: Any, *arguments: Any, steps_per_call: int = 1
) -> Run:
  """Returns a function that repeats `steps(state, *arguments)`.

  `steps` returns (state, metrics) and takes `steps_per_call` steps. The number
  of steps is rounded up to whole calls.
  """

  def run(num_steps: int) -> None:
    nonlocal state
    for _ in range(-(-num_steps // steps_per_call)):
      state, _ = steps(state, *arguments)
    jax.block_until_ready(state)

  return run


def _serve(build: Build, connection: Connection) -> None:
  """Main function of a contender's process: sets up, then serves requests."""
  try:
    run = build()
    run(2)  # compiles and fills caches
    connection.send(None)
  except Exception as error:  # the parent reports it
    connection.send(f'{type(error).__name__}: {error}')
    return
  while num_steps := connection.recv():
    run(1)  # wakes up threads
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
  """Measures seconds per step in each round, by contender.

  Args:
    builds: picklable functions; a contender that raises is left out.
    rounds: number of turns of each contender.
    num_steps: steps in a turn, after a warm-up step.
    say: receives a line about each contender that is left out.
  """
  # Otherwise the first process on a GPU would reserve most of its memory.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  contenders = {}
  for name, build in builds.items():  # one at a time, as setting up is heavy
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
  """Median and quartiles of the speedup of `fast` over `slow`, per round."""
  ratios = np.array(seconds[slow]) / np.array(seconds[fast])
  low, median, high = np.percentile(ratios, (25, 50, 75))
  return float(median), float(low), float(high)


def machine() -> str:
  """Describes the processor, its cores, the accelerators, and the date."""
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
  """Formats a Markdown table; all columns but the first are right-aligned."""
  marks = ['---', *['---:'] * (len(header) - 1)]
  lines = [header, marks, *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_json(path: str, result: Any) -> None:
  """Writes a result to a JSON file; creates its folder."""
  file = pathlib.Path(path)
  file.parent.mkdir(parents=True, exist_ok=True)
  file.write_text(json.dumps(result, indent=2) + '\n')
