"""What hooks write and draw at which moments of a small run."""

import types

from fake_run import FAILURE
from fake_run import moment
from fake_run import NUM_STEPS
from fake_run import Run
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import images as images_lib
from common_flax.errors import TrainingFailedError
from common_flax.training import hooks


@pytest.fixture
def clock(monkeypatch):
  """Seconds that tests set."""
  clock = types.SimpleNamespace(seconds=0.0)
  clock.monotonic = lambda: clock.seconds
  monkeypatch.setattr(hooks, 'time', clock)
  return clock


def drawn_at(curves, run, clock, times):
  """The steps, one at each time, at which curves are drawn."""
  drawn = []
  for step, clock.seconds in times.items():
    curves(moment(run, step))
    drawn += [step] * run.record.calls.count('curves')
    run.record.calls.clear()
  return drawn


def test_curves_are_drawn_one_call_after_they_are_due(clock):
  times = dict.fromkeys(range(1, 10), 0.0)
  assert drawn_at(hooks.Curves({}, 3), Run(), clock, times) == [4]


def test_curves_are_drawn_once_a_minute_at_most(clock):
  """Each is due one call before."""
  times = {1: 10, 2: 40, 3: 69, 4: 71, 5: 100, 6: 101, 7: 132}
  assert drawn_at(hooks.Curves({}, 1), Run(), clock, times) == [2, 6]


def test_curves_are_drawn_at_once_after_a_rollback(clock):
  curves, run = hooks.Curves({}, 1), Run()
  assert drawn_at(curves, run, clock, {1: 0, 2: 1, 3: 2}) == [2]
  curves(moment(run, 1, is_start=True))
  assert drawn_at(curves, run, clock, {2: 3, 3: 4, 4: 5}) == [3]


@pytest.mark.parametrize('ends', ['finished', 'failed'])
def test_curves_are_drawn_at_once_when_a_run_ends(clock, ends):
  curves, run = hooks.Curves({}, 1), Run()
  assert drawn_at(curves, run, clock, {1: 0, 2: 1, 3: 2}) == [2]
  now = moment(run, NUM_STEPS if ends == 'finished' else 4)
  now.failure = FAILURE if ends == 'failed' else None
  curves(now)
  assert run.record.calls == ['curves']


def test_curves_are_not_drawn_of_what_is_not_finite(clock):
  run = Run()
  now = moment(run, NUM_STEPS)
  now.is_finite = False
  hooks.Curves({}, 1)(now)
  assert not run.record.calls


@pytest.mark.parametrize('hook', ['Curves', 'Pictures', 'Metrics', 'Profile'])
def test_only_the_first_process_writes(hook):
  run = Run(is_first_process=False)
  hook = {
    'Curves': hooks.Curves({}, 1),
    'Pictures': hooks.Pictures(picture_of, 1),
    'Metrics': hooks.Metrics(()),
    'Profile': hooks.Profile(range(NUM_STEPS)),
  }[hook]
  for step in (1, 2, NUM_STEPS):
    now = moment(run, step)
    now.metrics = {'loss': 1.0}
    hook(now)
  record = run.record
  assert not (record.calls or record.pictures or record.rows)


def picture_of(root, state):
  return np.full((2, 2, 1), state, np.uint8)


def pictured(run):
  """The steps of pictures, and the value of the state they show."""
  return [(step, int(x.max())) for step, x in run.record.pictures]


def test_the_first_picture_shows_the_state_before_the_first_step():
  """Though the step has overwritten it by the time it is drawn."""
  pictures, run = hooks.Pictures(picture_of, 2), Run()
  state = jnp.float32(7)
  pictures(moment(run, 0, state, is_start=True))
  assert not run.record.pictures
  state.delete()
  pictures(moment(run, 1, jnp.float32(8)))
  pictures(moment(run, 2, jnp.float32(9)))
  assert pictured(run) == [(0, 7), (2, 9)]


def test_a_resumed_run_has_a_first_picture_already():
  pictures, run = hooks.Pictures(picture_of, 2), Run()
  pictures(moment(run, 4, is_start=True))
  pictures(moment(run, 5))
  assert not run.record.pictures


def test_pictures_are_drawn_when_due_and_when_a_run_ends():
  pictures, run = hooks.Pictures(picture_of, 6), Run()
  for step in range(1, NUM_STEPS + 1):
    pictures(moment(run, step))
    assert ('gif' in run.record.calls) == (step == NUM_STEPS)
  failing = moment(run, 5)
  failing.failure = FAILURE
  pictures(failing)
  pictures(moment(run, 5, is_stopped=True))  # it will go on
  not_finite = moment(run, 6)
  not_finite.is_finite = False
  pictures(not_finite)
  assert pictured(run) == [(i, i) for i in (6, 12, 18, NUM_STEPS, 5)]


def test_several_runs_have_one_picture():
  run = Run(num_seeds=3)
  hooks.Pictures(picture_of, 1)(moment(run, 1, jnp.arange(3)))
  ((_, picture),) = run.record.pictures
  expected = np.stack([picture_of(None, i) for i in range(3)])
  np.testing.assert_array_equal(picture, images_lib.grid(expected))


def test_metrics_are_written_with_what_other_hooks_add():
  metrics, run = hooks.Metrics(('loss', 'added')), Run()
  metrics(moment(run, 1))  # not due
  now = moment(run, 2)
  now.metrics, now.seconds_per_step = {'loss': 1.5}, 0.5
  now.metrics['added'] = 2.0
  metrics(now)
  expected = {'step': 2, 'loss': 1.5, 'added': 2.0, 'images_per_second': 16.0}
  assert run.record.rows == [expected]
  ((step, line),) = run.shown
  assert step == 2
  assert all(part in line for part in ('loss', 'added', '16 images/s', '9 s'))


def test_what_cannot_be_written_stops_the_run_unless_asked_to_go_on():
  def fail(*unused):
    raise OSError(28, 'No space left on device')

  run = Run()
  run.record.curves = fail
  with pytest.raises(TrainingFailedError, match=r'curves.png .*: No space'):
    hooks.Curves({}, 1)(moment(run, NUM_STEPS))
  run.config.on_save_error = 'warn'
  hooks.Curves({}, 1)(moment(run, NUM_STEPS))
  (line,) = run.said
  assert line.startswith(f'step {NUM_STEPS}: curves.png cannot be written: No ')
