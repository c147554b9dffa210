"""Measures this project on a machine with an accelerator, in eight minutes.

  python -m benchmarks.gpu [--output=FOLDER] [--minutes=8] [--small]
      [--only=PART ...] [--check]

Each part runs as a process of its own, the most telling ones first, with a time
limit of its own and within the time of the whole. A part that fails is recorded
with the last line of its error, and the others go on. FOLDER receives gpu.json
and gpu.md, which are written anew after each part. --small takes sizes that a
CPU manages in a few minutes, to test this program. --check only says what is
installed.

This module and `gpu_parts` import nothing but Python's own packages, so that
they can name what is missing.
"""

import argparse
from collections.abc import Sequence
import configparser
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time

from benchmarks.gpu_parts import Part
from benchmarks.gpu_parts import PARTS

ROOT = pathlib.Path(__file__).parents[1]
_EXTRAS = ('pytest', 'torch')  # beside what this project requires
_PROBES = {
  'jax': 'import jax; d = jax.devices(); print(jax.__version__, "sees", '
  'len(d), "x", d[0].device_kind, f"({jax.default_backend()})")',
  'torch': 'import torch; c = torch.cuda; print(torch.__version__, "sees", '
  'c.get_device_name() if c.is_available() else "no GPU")',
}
_PROBE_SECONDS = 60
_LEAST_SECONDS = 5  # a part is not started with less
_KILLED_SECONDS = 5  # until a killed part is given up


def installed() -> dict[str, str | None]:
  """Versions of the packages this project uses; None for a missing one."""
  settings = configparser.ConfigParser()
  settings.read(ROOT / 'setup.cfg')
  lines = settings['options']['install_requires'].splitlines()
  names = [re.match(r'[\w.-]*', line).group() for line in lines]
  versions = {}
  for name in [*filter(None, names), *_EXTRAS]:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  return versions


def _probe(code: str) -> str:
  """The last line that a Python program prints or fails with."""
  try:
    done = subprocess.run(
      [sys.executable, '-c', code],
      check=False,
      capture_output=True,
      text=True,
      timeout=_PROBE_SECONDS,
    )
  except subprocess.TimeoutExpired:
    return f'no answer in {_PROBE_SECONDS} s'
  return _last_line(done.stderr if done.returncode else done.stdout)


def _last_line(text: str) -> str:
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1][:300] if lines else 'no output'


def check() -> dict:
  """Prints and returns what is installed, and which devices it sees."""
  versions = installed()
  missing = [name for name, version in versions.items() if version is None]
  found = {name: _probe(code) for name, code in _PROBES.items()}
  machine = f'{platform.machine()}, {os.cpu_count()} cores'
  print(f'Python {platform.python_version()}, {machine}')
  for name, line in found.items():
    print(f'{name}: {line}')
  print(f'missing packages: {", ".join(missing) or "none"}')
  return {
    'date': datetime.datetime.now().isoformat(timespec='seconds'),
    'machine': machine,
    'python': platform.python_version(),
    'devices': found,
    'versions': versions,
  }


def _run(arguments: list[str], seconds: float, env: dict) -> tuple[str, str]:
  """Runs Python; returns its output, and why it failed or ''."""
  process = subprocess.Popen(
    [sys.executable, *arguments],
    cwd=ROOT,
    env=env,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,  # so that contenders end with it
  )
  try:
    output, errors = process.communicate(timeout=max(seconds, 0.0))
  except subprocess.TimeoutExpired:
    os.killpg(process.pid, signal.SIGKILL)
    try:
      output, _ = process.communicate(timeout=_KILLED_SECONDS)
    except subprocess.TimeoutExpired:
      output = ''
    return output, f'stopped after {seconds:.0f} s'
  if not process.returncode:
    return output, ''
  return output, _last_line(errors.strip() or output)


def _is_there(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    return False


def measure(part: Part, is_small: bool, seconds_left: float) -> dict:
  """Runs a part and returns its record."""
  commands = part.small if is_small else part.commands
  record = {'name': part.name, 'title': part.title, 'status': 'skipped'}
  record |= {'commands': commands, 'seconds': 0.0, 'reason': ''}
  record |= {'output': '', 'result': None}
  if not _is_there(part.module):
    return record | {'reason': f'there is no module {part.module}'}
  if not commands:
    return record | {'reason': 'too long for --small'}
  if seconds_left < _LEAST_SECONDS:
    return record | {'reason': 'no time left'}
  start = time.monotonic()
  # A CPU is no measure of how long a part may take.
  stop = start + (seconds_left if is_small else min(part.seconds, seconds_left))
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / 'result.json'
    # Unbuffered, a part that is stopped keeps what it has printed.
    env = os.environ | {'PYTHONPATH': _python_path(), 'PYTHONUNBUFFERED': '1'}
    if part.name == 'first-step':
      env['XDG_CACHE_HOME'] = folder
      env.pop('JAX_COMPILATION_CACHE_DIR', None)
    for command in commands:
      words = command.format(folder=folder, json=file).split()
      arguments = [word.replace('~', ' ') for word in words]
      began = time.monotonic()
      output, reason = _run(arguments, stop - began, env)
      took = time.monotonic() - began
      record['output'] += f'{output.rstrip()}\n(took {took:.1f} s)\n'
      if reason:
        break
    if file.exists():
      record['result'] = json.loads(file.read_text())
  record['status'] = 'failed' if reason else 'done'
  record['seconds'] = round(time.monotonic() - start, 1)
  return record | {'reason': reason}


def _python_path() -> str:
  return os.pathsep.join(
    filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])
  )


def markdown(found: dict, records: Sequence[dict]) -> str:
  """The page of all parts: what ran where, a summary, and each output."""
  lines = [f'# {found["date"]}, {found["machine"]}', '']
  lines += [f'- {name}: {line}' for name, line in found['devices'].items()]
  lines += ['', '| part | status | seconds | reason |', '|---|---|---:|---|']
  for record in records:
    reason = record['reason'].replace('|', '\\|')
    cells = (record['name'], record['status'], f'{record["seconds"]:.0f}')
    lines.append(f'| {" | ".join(cells)} | {reason} |')
  for record in records:
    lines += ['', f'## {record["title"]}', '']
    commands = (text.replace('~', ' ') for text in record['commands'])
    lines += [f'`python {command}`\n' for command in commands]
    lines.append(record['output'].strip() or record['reason'])
  return '\n'.join(lines) + '\n'


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    'python -m benchmarks.gpu',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  names = [part.name for part in PARTS]
  parser.add_argument('--output', default='gpu', help='folder of the results')
  parser.add_argument('--minutes', type=float, default=8.0)
  parser.add_argument('--small', action='store_true')
  parser.add_argument('--only', action='append', choices=names)
  parser.add_argument('--check', action='store_true')
  return parser.parse_args(argv[1:])


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns 1 if a part failed, else 0."""
  values = _parse(argv)
  stop = time.monotonic() + 60 * values.minutes
  found = check()
  if values.check:
    return 0
  folder = pathlib.Path(values.output)
  folder.mkdir(parents=True, exist_ok=True)
  records = []
  for part in PARTS:
    if values.only and part.name not in values.only:
      continue
    print(f'\n== {part.title}', flush=True)
    record = measure(part, values.small, stop - time.monotonic())
    records.append(record)
    print(record['output'], end='')
    print(f'{record["status"]}, {record["seconds"]:.0f} s', record['reason'])
    result = found | {'is_small': values.small, 'parts': records}
    (folder / 'gpu.json').write_text(json.dumps(result, indent=2) + '\n')
    (folder / 'gpu.md').write_text(markdown(found, records))
  print(f'\nResults: {folder}/gpu.md, {folder}/gpu.json')
  return int(any(record['status'] == 'failed' for record in records))


if __name__ == '__main__':
  sys.exit(main(sys.argv))
