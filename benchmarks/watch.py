"""Breaks small GAN runs on purpose, and tells when and how the watch speaks.

  python -m benchmarks.watch [--only=TEXT] [--seeds=1] [--output=rows.json]

Trains the runs of `benchmarks.watched_runs`, each for at most 1,000 steps:
first those that are broken, which end when the watch speaks, then healthy
recipes over several seeds, about which it has to be silent.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import io
import json
import pathlib
import re
import sys
import tempfile
from typing import NamedTuple
from unittest import mock

from absl import flags

from benchmarks import turns
from benchmarks import watched_runs
from benchmarks.watched_runs import Case
from common_flax.cli import commands
from common_flax.errors import TrainingFailedError
from common_flax.training import run as run_lib
from common_flax.training import speed
from gan_flax import train as train_lib


class Outcome(NamedTuple):
  """What the watch said of a run, and its metrics."""

  steps: tuple[int, ...]  # at which it spoke
  words: tuple[str, ...]  # what it said
  rows: list[Mapping[str, float | None]]  # of metrics.jsonl


def observe(case: Case, seed: int = 0, action: str = 'warn') -> Outcome:
  """Trains a case in a temporary workdir.

  Args:
    case: the run.
    seed: of the run.
    action: `config.on_collapse`; 'stop' ends the run when the watch speaks.
  """
  config = watched_runs.config_of(case, seed).unlock()
  config.on_collapse = action
  said = io.StringIO()
  with (
    tempfile.TemporaryDirectory() as workdir,
    contextlib.redirect_stdout(said),
    mock.patch.object(run_lib.speed, 'measure', _unmeasured),
  ):
    error = ''
    try:
      train_lib.train(
        config.lock(), workdir, source=watched_runs.source_of(case)
      )
    except TrainingFailedError as failure:
      error = str(failure)
    metrics = pathlib.Path(workdir) / 'metrics.jsonl'
    lines = metrics.read_text().splitlines() if metrics.exists() else []
  warnings = re.findall(r'^Step ([\d,]+): (.*)$', said.getvalue(), re.M)
  if error and not warnings:  # on_nan
    warnings = re.findall(r'^step ([\d,]+): (.*)$', error, re.S)
  return Outcome(
    tuple(int(step.replace(',', '')) for step, _ in warnings),
    tuple(' '.join(words.split()) for _, words in warnings),
    [json.loads(line) for line in lines],
  )


def _unmeasured(*unused_arguments, **unused_options) -> speed.Speed:
  """Stands for the machine's speed, which takes seconds to measure."""
  return speed.Speed(1, 1.0, 1.0)


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(values, seeds=1)
  flags.DEFINE_string(
    'only', '', 'Only runs whose name contains this.', flag_values=values
  )
  flags.DEFINE_string(
    'output', None, 'JSON file for the metrics of all runs.', flag_values=values
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  rows, recorded = [], {}

  def follow(name: str, case: Case, seed: int, action: str) -> None:
    outcome = observe(case, seed, action)
    said = ' '.join(outcome.words) or 'nothing'
    step = f'{outcome.steps[0]:,}' if outcome.steps else 'silent'
    recorded[f'{name}, seed {seed}'] = outcome._asdict()
    rows.append([name, str(seed), step, said])
    print(f'{name}, seed {seed}: {step}: {said}', file=sys.stderr, flush=True)

  for name, case in watched_runs.BROKEN.items():
    if values.only in name:
      follow(f'broken: {name}', case, 0, 'stop')
  for seed in range(values.seeds):
    for name, case in watched_runs.HEALTHY.items():
      if values.only in name:
        follow(f'healthy: {name}', case, seed, 'warn')
  print(f'{turns.machine()}\n')
  print(turns.markdown(('run', 'seed', 'step', 'what the watch says'), rows))
  if values.output:
    turns.write_json(values.output, recorded)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
