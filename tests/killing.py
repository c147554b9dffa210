"""Kills a training again and again, and looks what it comes to.

  python tests/killing.py [--kills=50] [--inside_saves=10] [--num_steps=600]
      [--family=gan] [--seed=0] [--folder=DIR]

Two runs of one config: nothing disturbs the first; the second is killed by
SIGKILL at growing steps, some of them while a checkpoint is being written, and
started again. In the end both have to be the same, bit by bit.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from saved_arrays import differences

ROOT = pathlib.Path(__file__).parents[1]
CHECKPOINT_EVERY = 10
RECIPES = {
  'gan': (
    'gan_flax.main',
    'configs/ring.py:smoke',
    {
      'num_seeds': 1,
      'loss.name': 'non_saturating',
      'penalty.r1': 0.0,
      'penalty.r2': 0.0,
    },
  ),
  'vae': (
    'vae_flax.main',
    'configs/vae.py:smoke',
    {'model.name': 'mlp', 'model.hidden_sizes': (16,)},
  ),
}
_PATIENCE = 120  # seconds for whatever is waited for


class BrokenPromiseError(Exception):
  """A run did what it should never do."""


@dataclasses.dataclass
class Report:
  """What the kills have led to."""

  kills: int = 0
  inside_saves: int = 0
  most_lost: int = 0  # steps that a restart had to take again


class Run:
  """One run in a workdir, started as often as it takes."""

  def __init__(self, workdir, family, num_steps):
    self.workdir = workdir
    module, recipe, changes = RECIPES[family]
    changes = {
      **changes,
      'num_steps': num_steps,
      'steps_per_call': 1,
      'log_every_steps': 5,
      'sample_every_steps': 100,
      'checkpoint_every_steps': CHECKPOINT_EVERY,
    }
    self._command = [
      sys.executable,
      '-m',
      module,
      f'--config={recipe}',
      f'--workdir={workdir}',
      *(f'--config.{name}={value}' for name, value in changes.items()),
    ]

  def start(self):
    """A process; its output goes to a file beside the workdir."""
    self.output = self.workdir.with_suffix('.log')
    with self.output.open('w') as file:
      return subprocess.Popen(
        self._command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
      )

  def saved(self):
    """The newest checkpoint that is whole, 0 for none."""
    folder = self.workdir / 'checkpoints'
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)

  def saving(self):
    """The steps whose checkpoints are being written."""
    folder = self.workdir / 'checkpoints'
    return [
      int(path.name.partition('.')[0])
      for path in folder.glob('*.orbax-checkpoint-tmp')
    ]

  def reported(self):
    """The last step that metrics.jsonl tells of."""
    path = self.workdir / 'metrics.jsonl'
    if not path.exists():
      return 0
    rows = path.read_text().split('\n')[:-1]  # the last one may be cut short
    return json.loads(rows[-1])['step'] if rows else 0

  def resumed(self):
    """Where the process of the last start went on, 0 for the start."""
    found = re.search(r'Going on from step ([\d,]+)', self.output.read_text())
    return int(found[1].replace(',', '')) if found else 0


def wait_until(condition, run, process):
  """Waits for what a process is expected to do before it ends."""
  deadline = time.monotonic() + _PATIENCE
  while not condition():
    if process.poll() is not None:
      raise BrokenPromiseError(
        f'it ended with status {process.returncode}: {run.output.read_text()}'
      )
    if time.monotonic() > deadline:
      process.kill()
      raise BrokenPromiseError(f'it hangs: {run.output.read_text()}')
    time.sleep(0.001)


def kill_once(run, step, inside, chance):
  """Starts a run and kills it at a step; whether that was inside a save."""
  process = run.start()
  try:
    if inside:
      wait_until(lambda: any(s >= step for s in run.saving()), run, process)
      time.sleep(chance.uniform(0, 0.02))
    else:
      wait_until(lambda: run.reported() >= step, run, process)
      time.sleep(chance.uniform(0, 0.1))
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
  return bool(run.saving())


def check_restart(run, before, report):
  """Looks where the run went on, given what was whole and done before."""
  whole, done = before
  resumed = run.resumed()
  if resumed < whole - CHECKPOINT_EVERY:
    raise BrokenPromiseError(f'it went back to {resumed}; {whole} was whole')
  report.most_lost = max(report.most_lost, done - resumed)


def torment(run, kills, inside_saves, num_steps, chance):
  """Kills a run so often, and then lets it end."""
  report, before = Report(), (0, 0)
  while report.kills < kills or report.inside_saves < inside_saves:
    # Steps grow; what was meant to be inside a save and came late counts as
    # any other.
    at = min(num_steps - 20, (report.kills + 1) * num_steps // (kills + 2))
    still = inside_saves - report.inside_saves
    inside = still > 0 and chance.random() < 2 * still / max(
      1, kills - report.kills
    )
    was_inside = kill_once(run, max(at, run.saved() + 1), inside, chance)
    check_restart(run, before, report)
    before = (run.saved(), run.reported())
    report.kills += 1
    report.inside_saves += was_inside
    print(
      f'kill {report.kills}: at step {before[1]}, newest checkpoint '
      f'{before[0]}{", inside a save" if was_inside else ""}',
      flush=True,
    )
    if report.kills > 2 * kills:
      raise BrokenPromiseError('saves are too short to be met')
  process = run.start()
  if process.wait():
    raise BrokenPromiseError(f'the last start: {run.output.read_text()}')
  check_restart(run, before, report)
  return report


def compare(folder, family, kills, inside_saves, num_steps, seed):
  """Trains with and without kills; returns the report.

  Raises:
    BrokenPromiseError: if a start failed, a run went back too far, or the runs
      differ in the end.
  """
  straight = Run(folder / 'straight', family, num_steps)
  if straight.start().wait():
    raise BrokenPromiseError(straight.output.read_text())
  killed = Run(folder / 'killed', family, num_steps)
  chance = random.Random(seed)
  report = torment(killed, kills, inside_saves, num_steps, chance)
  different = differences(killed.workdir, straight.workdir, num_steps)
  if different:
    raise BrokenPromiseError(f'not the same in the end: {different}')
  return report


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--inside_saves', type=int, default=10)
  parser.add_argument('--num_steps', type=int, default=600)
  parser.add_argument('--family', choices=RECIPES, default='gan')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--folder', type=pathlib.Path)
  options = vars(parser.parse_args())
  folder = options.pop('folder') or pathlib.Path(tempfile.mkdtemp())
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')
  began = time.monotonic()
  try:
    report = compare(folder, **options)
  except BrokenPromiseError as error:
    print(f'error: {error} (kept in {folder})', file=sys.stderr)
    return 1
  shutil.rmtree(folder)
  print(
    f'{report.kills} kills, {report.inside_saves} of them inside a save; every '
    f'restart went on, at most {report.most_lost} steps back; the end is the '
    f'same, bit by bit. {time.monotonic() - began:.0f} s.'
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
