"""Runs that a judge calls failing: they warn, stop or roll back.

Tests replace the judge. It recognises the first attempt by its diversities; a
second attempt draws new random numbers and has others.
"""

import contextlib
import functools
import io
import os
import re
import signal

from conftest import assert_same_end
from conftest import final_state
from conftest import POINTS_RUN
from conftest import points_run
from conftest import read_metrics
from conftest import saved_steps
import numpy as np
import pytest
from saved_arrays import untimed_rows

from common_flax.errors import TrainingFailedError
from common_flax.training import inputs
from common_flax.training import speed
from common_flax.training.health import Verdict
from common_flax.training.speed import Speed
from gan_flax import main
from gan_flax import watch
from gan_flax.train import train

# Runs fail at step 6; at step 4 they are unhealthy, but not yet failing.
FAILS, UNHEALTHY, HEALTHY = 6, 4, 2
NUM_STEPS = 8


@pytest.fixture(scope='module', autouse=True)
def unmeasured():
  """Replaces the slow measurement of the machine's speed; yields its calls."""
  calls = []

  def measure(*arguments, **unused_options):
    calls.append(arguments)
    return Speed(16, 1.0, 1.0)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(speed, 'measure', measure)
    yield calls


def but_for_step_6(rows, **unused_facts):
  """Calls the run failing at all steps but 6."""
  return Verdict(None if rows[-1]['step'] == 6 else 'it fails.')


def always(rows, *, step=FAILS, **unused_facts):
  """Calls every attempt failing at one step."""
  fails = rows[-1]['step'] == step
  return Verdict('it fails.' if fails else None, is_healthy=not fails)


@pytest.fixture(scope='module')
def warned(tmp_path_factory):
  """The workdir of a first attempt that reached its end; read-only."""
  workdir = tmp_path_factory.mktemp('warned') / 'run'
  output = io.StringIO()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(watch, 'judge', but_for_step_6)
    with contextlib.redirect_stdout(output):
      train(points_run(), workdir)
  (workdir / 'output.txt').write_text(output.getvalue())
  return workdir


@pytest.fixture(scope='module')
def first_fails(warned):
  """A judge that calls only the first attempt failing."""
  known = {row['step']: row['diversity'] for row in read_metrics(warned)}

  def judge(rows, *, healthy=HEALTHY, **unused_facts):
    assert all(row['step'] % 2 == 0 for row in rows)  # regular reports only
    step, diversity = rows[-1]['step'], rows[-1]['diversity']
    if diversity != known.get(step):
      return Verdict()
    return Verdict('it fails.' if step == FAILS else None, step <= healthy)

  return judge


def rolled_by(judge, workdir, **changes):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(watch, 'judge', judge)
    train(points_run(on_collapse='rollback', **changes), workdir)
  return workdir


@pytest.fixture(scope='module')
def rolled(tmp_path_factory, first_fails):
  """The workdir of a run that was rolled back once; read-only."""
  return rolled_by(first_fails, tmp_path_factory.mktemp('rolled') / 'run')


def test_a_warning_is_printed_only_when_it_is_new(warned):
  lines = (warned / 'output.txt').read_text().splitlines()
  assert [line for line in lines if line.endswith('it fails.')] == [
    'Step 2: it fails.',
    'Step 8: it fails.',
  ]
  assert saved_steps(warned) == [4, 6, 8]


def test_a_rollback_goes_to_a_healthy_checkpoint(rolled, warned):
  state = final_state(rolled)
  assert (state.step, state.attempt) == (NUM_STEPS, 1)
  rows, first = map(untimed_rows, (rolled, warned))
  assert [row['step'] for row in rows] == [2, 4, 6, 8]
  assert rows[0] == first[0]
  for row, other in zip(rows[1:], first[1:], strict=True):
    for name in ('d_loss', 'g_loss', 'diversity'):
      assert row[name] != other[name]


def test_a_rollback_puts_later_checkpoints_and_pictures_aside(rolled):
  assert saved_steps(rolled) == [4, 6, 8]  # the newest three
  discarded = rolled / 'checkpoints_discarded'
  assert [path.name for path in discarded.iterdir()] == ['4']
  pictures = sorted(path.name for path in (rolled / 'samples').iterdir())
  assert pictures == ['step_00000000.png', 'step_00000008.png']


@pytest.mark.slow
def test_rollbacks_are_reproducible(tmp_path, rolled, first_fails):
  again = rolled_by(first_fails, tmp_path / 'run')
  assert_same_end(again, rolled)
  assert untimed_rows(again) == untimed_rows(rolled)


def interrupted(judge, how, *, at, attempt):
  """A judge that calls `how` once, at a step of an attempt."""
  seen = []  # one diversity per attempt; a step may be judged several times

  def judge_once(rows, **facts):
    step, diversity = rows[-1]['step'], rows[-1]['diversity']
    if step == at and diversity not in seen:
      seen.append(diversity)
      if len(seen) == attempt + 1:
        how()
    return judge(rows, **facts)

  return judge_once


def kill():
  raise InterruptedError


@pytest.mark.parametrize(
  ('at', 'attempt'),
  [
    pytest.param(HEALTHY, 0, id='before', marks=pytest.mark.slow),
    pytest.param(UNHEALTHY, 1, id='after', marks=pytest.mark.slow),
  ],
)
def test_an_interruption_does_not_change_a_rollback(
  tmp_path, rolled, first_fails, at, attempt
):
  send = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
  judge = interrupted(first_fails, send, at=at, attempt=attempt)
  workdir = rolled_by(judge, tmp_path)
  assert saved_steps(workdir)[-1] == at + 1  # off schedule
  rolled_by(first_fails, workdir)
  assert_same_end(workdir, rolled)


@pytest.mark.slow
def test_a_run_killed_right_after_a_rollback_rolls_back_again(
  tmp_path, rolled, first_fails
):
  with pytest.raises(InterruptedError):
    rolled_by(interrupted(first_fails, kill, at=UNHEALTHY, attempt=1), tmp_path)
  assert saved_steps(tmp_path) == [HEALTHY]
  rolled_by(first_fails, tmp_path)
  assert_same_end(tmp_path, rolled)


@pytest.mark.slow
def test_an_extended_run_continues_the_second_attempt(
  tmp_path, rolled, first_fails
):
  rolled_by(first_fails, tmp_path, num_steps=FAILS)
  assert final_state(tmp_path).attempt == 1
  rolled_by(first_fails, tmp_path)
  (tmp_path / 'samples' / 'step_00000006.png').unlink()
  assert_same_end(tmp_path, rolled)


@pytest.mark.slow
def test_without_a_healthy_checkpoint_a_run_starts_again(
  tmp_path, warned, first_fails, unmeasured, monkeypatch, capsys
):
  begun = []
  example_batches = inputs.example_batches

  def note(*arguments, **options):
    batches = list(example_batches(*arguments, **options))
    begun.append((options['start_step'], np.stack(batches)))
    return iter(batches)

  monkeypatch.setattr(inputs, 'example_batches', note)
  unmeasured.clear()
  never = functools.partial(first_fails, healthy=0)
  rolled_by(never, tmp_path)
  assert final_state(tmp_path).attempt == 1
  (start, batches), (restart, same_batches) = begun
  assert start == restart == 0
  np.testing.assert_array_equal(batches, same_batches)
  rows, first = read_metrics(tmp_path), read_metrics(warned)
  assert [row['step'] for row in rows] == [2, 4, 6, 8]
  assert all(
    row['diversity'] != other['diversity']
    for row, other in zip(rows, first, strict=True)
  )
  discarded = sorted((tmp_path / 'checkpoints_discarded').iterdir())
  assert [path.name for path in discarded] == ['2', '4']
  output = capsys.readouterr().out
  assert output.count('Going back to step 0') == 1
  assert len(unmeasured) == 1  # for both attempts


@pytest.fixture
def command(monkeypatch, capfd, tmp_path, in_the_repository):
  """Trains by the command; returns its exit status and output."""

  def run(*arguments):
    monkeypatch.setattr(watch, 'judge', always)
    status = main.main(
      [
        'main',
        '--config=configs/ring.py:smoke',
        f'--workdir={tmp_path}/run',
        *(f'--config.{name}={value}' for name, value in POINTS_RUN.items()),
        *arguments,
      ]
    )
    return status, capfd.readouterr()

  return run


def assert_fails(result, *words):
  status, captured = result
  assert status == 1
  assert captured.err.startswith('error: step 6: it fails.')
  assert captured.err.count('\n') == 1
  assert all(word in captured.err for word in words)


@pytest.mark.slow
def test_rollbacks_come_to_an_end(command, tmp_path):
  result = command(
    '--config.on_collapse=rollback', '--config.on_collapse_max_rollbacks=2'
  )
  assert_fails(result, '2 rollbacks')
  assert re.findall(r'Going back to step (\d)', result[1].out) == ['4', '2']
  assert saved_steps(tmp_path / 'run') == [2, 4]
  assert (tmp_path / 'run' / 'samples' / 'step_00000006.png').exists()


def test_a_failing_run_stops_before_saving(command, tmp_path):
  assert_fails(command('--config.on_collapse=stop'), 'on_collapse')
  assert saved_steps(tmp_path / 'run') == [2, 4]
  assert (tmp_path / 'run' / 'samples' / 'step_00000006.png').exists()
  assert read_metrics(tmp_path / 'run')[-1]['step'] == FAILS


@pytest.mark.slow
def test_a_limit_of_rollbacks_may_be_lowered(tmp_path):
  attempts = []

  def twice(rows, **unused_facts):
    attempts.append(rows[-1])  # without checkpoints, each is judged once
    fails = len(attempts) <= 2
    return Verdict('it fails.' if fails else None, is_healthy=not fails)

  rolled_by(twice, tmp_path, num_steps=2)
  assert final_state(tmp_path).attempt == 2
  limit = {'on_collapse_max_rollbacks': 1}
  with pytest.raises(TrainingFailedError, match='after 2 rollbacks'):
    rolled_by(functools.partial(always, step=4), tmp_path, num_steps=4, **limit)


@pytest.mark.slow
def test_rollbacks_work_under_pmap(tmp_path):
  limit = {'on_collapse_max_rollbacks': 1}
  with pytest.raises(TrainingFailedError, match=r'step 6: .*after 1 rollback'):
    rolled_by(always, tmp_path, parallelism='pmap', **limit)
  assert saved_steps(tmp_path) == [2, 4]
  rolled_by(lambda rows, **unused_facts: Verdict(), tmp_path, parallelism='jit')
  assert final_state(tmp_path).step == NUM_STEPS
