"""Kills a run repeatedly and checks that its result is unchanged.

  python tests/killing.py [--kills=50] [--inside_saves=10] [--num_steps=600]
      [--family=gan] [--seed=0] [--folder=DIR]

Two runs have the same config. The first is undisturbed. The second is killed
with SIGKILL at increasing steps, sometimes while a checkpoint is being written,
and restarted each time. In the end both must be equal, bit for bit.
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
    {
      'model.name': 'mlp',
      'model.hidden_sizes': (16,),
      'model.base_features': 32,  # the default: dense layers have none
    },
  ),
}
_PATIENCE = 120  # seconds to wait for an event


class BrokenPromiseError(Exception):
  """A run broke a guarantee."""


@dataclasses.dataclass
class Report:
  """Counts of kills and their largest cost."""

  kills: int = 0
  inside_saves: int = 0
  most_lost: int = 0  # steps that a restart had to repeat


class Run:
  """A run in a workdir, which may be started many times."""

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
    """Starts a process; its output goes to a file beside the workdir."""
    self.output = self.workdir.with_suffix('.log')
    with self.output.open('w') as file:
      return subprocess.Popen(
        self._command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
      )

  def saved(self):
    """Returns the step of the newest complete checkpoint, or 0."""
    folder = self.workdir / 'checkpoints'
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return max((int(name) for name in names if name.isdecimal()), default=0)

  def saving(self):
    """Returns the steps whose checkpoints are being written."""
    folder = self.workdir / 'checkpoints'
    return [
      int(path.name.partition('.')[0])
      for path in folder.glob('*.orbax-checkpoint-tmp')
    ]

  def reported(self):
    """Returns the last step in metrics.jsonl, or 0."""
    path = self.workdir / 'metrics.jsonl'
    if not path.exists():
      return 0
    rows = path.read_text().split('\n')[:-1]  # the last row may be incomplete
    return json.loads(rows[-1])['step'] if rows else 0

  def resumed(self):
    """Returns the step from which the last process resumed, or 0."""
    found = re.search(r'Resuming from step ([\d,]+)', self.output.read_text())
    return int(found[1].replace(',', '')) if found else 0


def wait_until(condition, run, process):
  """Waits for a condition that must hold before the process ends."""
  deadline = time.monotonic() + _PATIENCE
  while not condition():
    if process.poll() is not None:
      raise BrokenPromiseError(
        f'exited with status {process.returncode}: {run.output.read_text()}'
      )
    if time.monotonic() > deadline:
      process.kill()
      raise BrokenPromiseError(f'hangs: {run.output.read_text()}')
    time.sleep(0.001)


def kill_once(run, step, inside, chance):
  """Starts a run, kills it at a step; returns whether a save was going on."""
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
  """Checks the step of a restart against the checkpoint and step before it."""
  whole, done = before
  resumed = run.resumed()
  if resumed < whole - CHECKPOINT_EVERY:
    raise BrokenPromiseError(
      f'resumed from step {resumed}, but step {whole} was saved'
    )
  report.most_lost = max(report.most_lost, done - resumed)


def torment(run, kills, inside_saves, num_steps, chance):
  """Kills a run repeatedly, then lets it finish; returns the report."""
  report, before = Report(), (0, 0)
  while report.kills < kills or report.inside_saves < inside_saves:
    # Steps increase. A kill that was meant for a save but came too late counts
    # as an ordinary kill.
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
      raise BrokenPromiseError('saves are too short to be hit by a kill')
  process = run.start()
  if process.wait():
    raise BrokenPromiseError(f'the last start failed: {run.output.read_text()}')
  check_restart(run, before, report)
  return report


def compare(folder, family, kills, inside_saves, num_steps, seed):
  """Trains with and without kills; returns the report.

  Raises:
    BrokenPromiseError: if a start fails, a run goes back too far, or the final
      states differ.
  """
  straight = Run(folder / 'straight', family, num_steps)
  if straight.start().wait():
    raise BrokenPromiseError(straight.output.read_text())
  killed = Run(folder / 'killed', family, num_steps)
  chance = random.Random(seed)
  report = torment(killed, kills, inside_saves, num_steps, chance)
  different = differences(killed.workdir, straight.workdir, num_steps)
  if different:
    raise BrokenPromiseError(f'the final states differ: {different}')
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
    f'{report.kills} kills, {report.inside_saves} of them inside a save. '
    f'Restarts repeated at most {report.most_lost} steps, and the final states '
    f'are equal bit for bit. {time.monotonic() - began:.0f} s.'
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())
