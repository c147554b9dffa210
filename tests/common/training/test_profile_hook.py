"""Which steps are traced."""

from fake_run import moment
from fake_run import NUM_STEPS
from fake_run import Run
import pytest

from common_flax.training import hooks


@pytest.mark.parametrize(
  ('steps', 'traces', 'traced'),
  [
    (range(4, 8), 4, 8),
    (range(5, 7), 4, 8),  # whole calls
    (range(2), 0, 2),
    (range(18, 20), 18, 20),
    (range(16, 30), 16, 20),  # the run ends first
  ],
)
def test_steps_are_traced_from_the_call_that_takes_the_first(
  steps, traces, traced
):
  profile, run = hooks.Profile(steps), Run(steps_per_call=2)
  seen = {}
  for step in range(0, NUM_STEPS + 1, 2):
    profile(moment(run, step, is_start=step == 0))
    seen |= {call: step for call in run.record.calls if call not in seen}
  assert run.record.calls == ['traces', 'traced']
  assert seen == {'traces': traces, 'traced': traced}
  assert run.said == [f'Traced from step {traces}.']


def test_a_trace_ends_when_the_loop_does():
  profile, run = hooks.Profile(range(NUM_STEPS)), Run()
  profile(moment(run, 0, is_start=True))
  assert run.record.calls == ['traces']
  (close,) = run.exits
  close()
  close()
  assert run.record.calls == ['traces', 'traced']


def test_steps_after_the_end_are_said_not_to_be_traced():
  """--max_minutes may choose fewer steps than those to trace."""
  profile, run = hooks.Profile(range(NUM_STEPS, NUM_STEPS + 2)), Run()
  for step in range(NUM_STEPS + 1):
    profile(moment(run, step, is_start=step == 0))
  assert not run.record.calls
  assert run.said == [f'Nothing is traced: the run ended at step {NUM_STEPS}.']


def test_steps_taken_before_are_not_traced():
  profile, run = hooks.Profile(range(2, 4)), Run()
  profile(moment(run, 4, is_start=True))
  profile(moment(run, 5))
  assert not run.record.calls
  assert run.said == ['Nothing is traced: steps 2 to 3 are already done.']
