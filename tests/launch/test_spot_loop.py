"""The loop that recreates a slice after a preemption."""

import re
import signal
import time

import pytest
from stand_ins import ABSENT
from stand_ins import COMMAND
from stand_ins import Scripts
from stand_ins import TRAINING


@pytest.fixture
def scripts(tmp_path):
  return Scripts(tmp_path)


def spot(scripts, statuses, **options):
  """Runs the spot loop; runs of the command exit with `statuses` in turn."""
  plan = [{'match': TRAINING, 'status': status} for status in statuses]
  return scripts('spot_loop.sh', *COMMAND, plan=plan + coming(), **options)


def coming(times=10):
  """Rules by which no request exists and a new one becomes active."""
  answers = [
    {'match': 'state.state', **ABSENT},
    {'match': 'state.state', 'output': 'ACTIVE'},
  ]
  return answers * times


def test_a_preempted_slice_is_recreated(scripts):
  """Once after a checkpoint, and once in the middle of a step."""
  process = spot(scripts, [143, 255, 0])
  assert process.returncode == 0, process.stderr
  assert len(scripts.calls(' create ')) == 3
  assert all('--spot' in call for call in scripts.calls(' create '))
  assert len(scripts.calls(TRAINING)) == 3


def test_a_mistake_is_not_repeated(scripts):
  process = spot(scripts, [2])
  assert process.returncode == 2
  assert len(scripts.calls(' create ')) == 1


def test_recreations_are_limited(scripts):
  process = spot(scripts, [143] * 5, MAX_RECREATIONS='2')
  assert process.returncode == 1
  assert 'error: gave up after 2 recreations' in process.stderr
  assert len(scripts.calls(TRAINING)) == 3


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('REPOSITORY', None),
    ('WORKDIR', None),
    ('VALID_FOR', 'x'),
    ('READY_SECONDS', 'x'),
    ('MAX_RECREATIONS', '-1'),
    ('BACKOFF_SECONDS', '1m'),
  ],
)
def test_an_invalid_setting_creates_and_deletes_nothing(scripts, name, value):
  process = scripts('spot_loop.sh', *COMMAND, **{name: value})
  assert process.returncode == 2
  assert process.stderr.startswith(f'error: {name}')
  assert process.stderr.count('\n') == 1
  assert scripts.calls() == []


def test_a_dry_run_prints_all_commands_and_calls_nothing(scripts):
  process = scripts('spot_loop.sh', '--dry-run', *COMMAND)
  assert process.returncode == 0, process.stderr
  lines = process.stdout.splitlines()
  assert ' create ' in lines[0]
  assert TRAINING in lines[1].replace('\\', '')
  assert sum(' delete ' in line for line in lines) == 6
  assert scripts.calls() == []


def test_the_pause_doubles_after_consecutive_failures(scripts):
  program = scripts.folder / 'bin' / 'gcloud'
  (scripts.folder / 'bin' / 'sleep').symlink_to(program)
  statuses = [1, 255, 1, 143, 1, 0]
  process = spot(scripts, statuses, BACKOFF_SECONDS='60')
  assert process.returncode == 0, process.stderr
  slept = [x for x in scripts.calls('sleep ') if re.match('sleep [1-9]', x)]
  assert slept == [f'sleep {60 * n}' for n in (1, 2, 4, 1, 2)]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_and_deletes_the_slice(scripts, number):
  signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
  training = {'match': TRAINING, 'status': 143, 'seconds': 3}
  plan = [training, *coming()]
  process = scripts.start('spot_loop.sh', *COMMAND, plan=plan)
  while not scripts.calls(TRAINING):
    assert process.poll() is None
    time.sleep(0.05)
  # To the loop only, like `kill`; a terminal would signal its children too.
  process.send_signal(number)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 128 + number, errors
  assert len(scripts.calls('pkill -TERM')) == 1
  assert len(scripts.calls(' create ')) == 1  # no recreation
  assert scripts.calls()[-1].startswith('gcloud compute instances describe')
