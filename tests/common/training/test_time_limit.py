"""How many steps fit into a time, computed from what a trial measures."""

import types

from ml_collections import ConfigDict
import pytest

from common_flax.training import time_limit
from common_flax.training.time_limit import Costs

INTERVALS = {
  'log_every_steps': 10,
  'sample_every_steps': 40,
  'checkpoint_every_steps': 100,
  'evaluate_every_steps': 0,
  'steps_per_call': 5,
}
COSTS = Costs(
  start=3.0,
  end=1.0,
  step=0.01,
  report=0.02,
  picture=0.1,
  checkpoint=0.5,
  evaluation=4.0,
)


def predicted(num_steps, config):
  return (
    COSTS.start
    + COSTS.end
    + num_steps * COSTS.step
    + num_steps / config.log_every_steps * COSTS.report
    + num_steps / config.sample_every_steps * COSTS.picture
    + num_steps / config.checkpoint_every_steps * COSTS.checkpoint
    + num_steps / (config.evaluate_every_steps or 1e9) * COSTS.evaluation
  )


@pytest.mark.parametrize('evaluate_every_steps', [0, 200])
def test_the_steps_fill_the_time_but_for_a_margin(evaluate_every_steps):
  config = ConfigDict(INTERVALS | {'evaluate_every_steps': 0})
  config.evaluate_every_steps = evaluate_every_steps
  num_steps = COSTS.steps_within(300.0, config)
  assert num_steps % config.steps_per_call == 0
  assert 0.97 * 300 < predicted(num_steps, config) < 0.985 * 300


def test_no_step_fits_into_less_than_the_start():
  assert COSTS.steps_within(4.0, ConfigDict(INTERVALS)) == 0


class Trial:
  """A run on a clock that only its own parts move."""

  def __init__(self, monkeypatch, config, costs, seconds):
    self.clock, self.costs = 100.0, costs
    self.per_call = config.steps_per_call
    self.config = config.copy_and_resolve_references()
    self.config.num_steps = 10**6
    self.is_first_process = True
    self.watch = time_limit._Stopwatch(seconds)
    clock = types.SimpleNamespace(monotonic=lambda: self.clock)
    monkeypatch.setattr(time_limit, 'time', clock)

  def run(self):
    """Takes calls until the stopwatch ends the trial; returns their number."""
    began, calls, costs = self.clock, 0, self.costs
    self.clock += costs.start - costs.step * self.per_call
    while True:
      calls += 1
      self.clock += costs.step * self.per_call
      is_last = calls * self.per_call == self.config.num_steps
      self.watch(
        types.SimpleNamespace(
          run=self,
          step=calls * self.per_call,
          is_start=False,
          is_last=is_last,
          wait=lambda: None,
        )
      )
      if is_last:
        break
      self.clock += costs.report * (calls % 10 == 0)
      self.clock += costs.picture * (calls % 20 == 0)
      self.clock += costs.checkpoint * (calls % 30 == 0)
      if self.config.evaluate_every_steps:
        self.clock += costs.evaluation * (calls % 60 == 0)
    self.clock += costs.end
    return calls, self.watch.costs(began, self.clock, self.config)


@pytest.mark.parametrize('evaluate_every_steps', [0, 200])
def test_a_trial_tells_the_costs_apart(monkeypatch, evaluate_every_steps):
  config = ConfigDict(INTERVALS | {'num_steps': 5})
  config.evaluate_every_steps = evaluate_every_steps
  trial = Trial(monkeypatch, config, COSTS, seconds=600.0)
  calls, measured = trial.run()
  assert 62 <= calls <= 240
  for name in ('start', 'end', 'step', 'report', 'picture', 'checkpoint'):
    expected = getattr(COSTS, name)
    assert getattr(measured, name) == pytest.approx(expected), name
  evaluation = COSTS.evaluation if evaluate_every_steps else 0.0
  assert measured.evaluation == pytest.approx(evaluation)


def test_slow_steps_are_few_in_a_trial(monkeypatch):
  config = ConfigDict(INTERVALS | {'num_steps': 5, 'steps_per_call': 1})
  slow = Costs(start=20.0, end=2.0, step=3.0)
  calls, measured = Trial(monkeypatch, config, slow, seconds=60.0).run()
  assert calls == 5
  assert measured == slow


def test_fast_steps_are_many_in_a_trial(monkeypatch):
  config = ConfigDict(INTERVALS | {'num_steps': 5, 'steps_per_call': 1})
  fast = Costs(start=1.0, end=0.1, step=1e-4)
  calls, measured = Trial(monkeypatch, config, fast, seconds=60.0).run()
  assert 10_000 < calls < 15_000
  assert measured.step == pytest.approx(1e-4)
