"""Training for a time: a number of steps is chosen, and the run is its own."""

import json
import os
import shutil
import signal

from conftest import assert_same_end
from conftest import contents
from conftest import POINTS_RUN
from conftest import points_run
from conftest import read_metrics
from conftest import saved_steps
import pytest

from common_flax.errors import UserError
from common_flax.training import time_limit
from common_flax.training import trial as trial_lib
from common_flax.training.trial import Compiling
from common_flax.training.trial import Costs
from gan_flax import config as gan_config
from gan_flax import main as main_lib
from gan_flax.train import train

MINUTES = 90.0
CHOSEN = 6


def choose_six_steps(monkeypatch):
  """Chooses six steps after the shortest trial; notes the trials' costs."""
  trials = []

  def choose(costs, seconds, config):
    assert costs.step > 0
    assert 0 < seconds < 60 * MINUTES
    trials.append(costs)
    return CHOSEN

  monkeypatch.setattr(Costs, 'steps_within', choose)
  monkeypatch.setattr(trial_lib, '_LARGEST_SHARE', 0.0)
  # Tests of VAEs have it.
  monkeypatch.setattr(time_limit, '_rehearse', lambda *unused: Compiling())
  return trials


six_steps = pytest.fixture(choose_six_steps)


@pytest.fixture(scope='module')
def limited(tmp_path_factory):
  """The workdir of a run whose six steps were chosen; read-only."""
  workdir = tmp_path_factory.mktemp('limited') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    trials = choose_six_steps(patch)
    train(points_run(), workdir, max_minutes=MINUTES)
  assert len(trials) == 1
  return workdir


def stored(workdir):
  return json.loads((workdir / 'config.json').read_text())


def cosine(**changes):
  return points_run(**{'generator.schedule': 'cosine'} | changes)


@pytest.mark.parametrize(
  'changes',
  [
    pytest.param({}, id='jit'),
    pytest.param({'parallelism': 'pmap'}, id='pmap', marks=pytest.mark.slow),
    pytest.param(
      {'num_seeds': 2, 'steps_per_call': 2}, id='seeds', marks=pytest.mark.slow
    ),
  ],
)
def test_the_run_is_that_of_the_chosen_number_of_steps(
  tmp_path, six_steps, changes
):
  """The schedule is stretched to it, and a trial leaves no trace."""
  limited, plain = tmp_path / 'limited', tmp_path / 'plain'
  config = cosine(**changes)
  assert train(config, limited, max_minutes=MINUTES) is None
  assert config.num_steps == 8  # the caller's config is its own
  assert stored(limited)['num_steps'] == CHOSEN
  assert not list(limited.glob('trial*'))
  config.num_steps = CHOSEN
  train(config, plain)
  assert_same_end(limited, plain)
  assert stored(limited) == stored(plain)
  steps = [[row['step'] for row in read_metrics(w)] for w in (limited, plain)]
  assert steps[0] == steps[1] == [2, 4, 6]
  assert len(six_steps) == 1


def test_a_run_keeps_its_number_of_steps(tmp_path, six_steps, capsys):
  def stop(now):
    if now.step == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  workdir, plain = tmp_path / 'run', tmp_path / 'plain'
  stopped_by = train(cosine(), workdir, hooks=[stop], max_minutes=MINUTES)
  assert stopped_by == signal.SIGTERM
  assert saved_steps(workdir)[-1] < CHOSEN
  capsys.readouterr()
  assert train(cosine(), workdir) is None
  assert '6 steps, chosen for 90 minutes' in capsys.readouterr().out
  train(cosine(num_steps=CHOSEN), plain)
  assert_same_end(workdir, plain)

  before = contents(workdir)
  assert train(cosine(), workdir, max_minutes=MINUTES) is None
  printed = capsys.readouterr().out
  assert f'--max_minutes: ignored; {workdir} resumes its own run' in printed
  assert 'already finished at step 6' in printed
  assert contents(workdir) == before
  assert len(six_steps) == 1


def test_another_number_of_steps_trains_longer(limited, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(limited, workdir)
  assert saved_steps(workdir)[-1] == CHOSEN
  train(points_run(num_steps=10), workdir)
  assert saved_steps(workdir)[-1] == 10


def test_a_trial_stopped_by_a_signal_is_no_run(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(
    trial_lib,
    'rehearse',
    lambda now: now.is_start and os.kill(os.getpid(), signal.SIGTERM),
  )
  shorter = {k: v for k, v in POINTS_RUN.items() if k != 'num_steps'}
  status = main_lib.main(
    [
      'command',
      '--config=configs/ring.py:smoke',
      f'--workdir={tmp_path}/deep/run',
      '--max_minutes=90',
      *(f'--config.{name}={value}' for name, value in shorter.items()),
    ]
  )
  assert status == 143
  assert 'before the first step' in capsys.readouterr().out
  assert not list(tmp_path.iterdir())


def test_too_short_a_time_leaves_nothing(tmp_path):
  before = contents(tmp_path)
  with pytest.raises(UserError, match=r'too short for .*log_every_steps=2'):
    train(points_run(), tmp_path / 'run', max_minutes=0.001)
  assert contents(tmp_path) == before


@pytest.mark.usefixtures('in_the_repository')
@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['--max_minutes=0'], ['--max_minutes=0', 'above 0']),
    (['--max_minutes=-2'], ['--max_minutes=-2', 'above 0']),
    (['--max_minutes=nan'], ['--max_minutes=nan', 'above 0']),
    (['--max_minutes=inf'], ['--max_minutes=inf', 'at most']),
    (['--max_minutes=soon'], ['max_minutes', 'soon']),
    (
      ['--max_minutes=1', '--config.num_steps=8'],
      ['--config.num_steps=8', 'only one of them'],
    ),
  ],
)
def test_wrong_times_are_refused(refuses, tmp_path, arguments, words):
  arguments = ['--config=configs/dcgan.py:smoke', *arguments]
  arguments.append(f'--workdir={tmp_path}/run')
  refuses(main_lib.main, arguments, *words, folder=tmp_path)


def test_a_damaged_note_is_named(limited, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(limited, workdir)
  (workdir / 'time_limit.json').write_text('{')
  with pytest.raises(UserError, match=r'time_limit\.json: cannot be read'):
    train(points_run(), workdir)


def test_a_trial_reads_no_program_of_its_schedule_from_a_cache(monkeypatch):
  """Its time must be that of the run, whose schedule is new as well."""
  default = gan_config.default()
  constant = {
    trial_lib.trial_config(points_run(), default, False).num_steps
    for _ in range(5)
  }
  assert len(constant) == 1
  scheduled = {
    trial_lib.trial_config(cosine(), default, True).num_steps for _ in range(5)
  }
  assert len(scheduled) > 1
