"""What a trial measures, and how many steps then fit into a time."""

import types

from etils import epath
import jax
from ml_collections import ConfigDict
import pytest

from common_flax.training import time_limit
from common_flax.training import trial as trial_lib
from common_flax.training.trial import Costs

INTERVALS = {
  'log_every_steps': 10,
  'sample_every_steps': 40,
  'checkpoint_every_steps': 100,
  'evaluate_every_steps': 0,
  'steps_per_call': 5,
  'trackers': ('tensorboard', 'wandb'),
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
  """A run on a clock that only its own parts move.

  Attributes:
    cold: seconds that only the first time of each part takes besides.
    once: seconds of what happens once, soon after the first picture.
  """

  def __init__(self, monkeypatch, config, costs, seconds):
    self.clock, self.costs, self.cold, self.once = 100.0, costs, 0.0, 0.0
    self.per_call = config.steps_per_call
    self.config = trial_lib.trial_config(config, config, False)
    self.is_first_process = True
    self.watch = trial_lib.Stopwatch(seconds, config, trial_lib.Compiling())
    clock = types.SimpleNamespace(monotonic=lambda: self.clock)
    monkeypatch.setattr(trial_lib, 'time', clock)

  def pass_by(self, step):
    """Lets the clock pass by the parts that follow a step."""
    for name, every in (
      ('report', self.config.log_every_steps),
      ('picture', self.config.sample_every_steps),
      ('checkpoint', self.config.checkpoint_every_steps),
      ('evaluation', self.config.evaluate_every_steps),
    ):
      if every and step % every == 0:
        self.clock += getattr(self.costs, name) + self.cold * (step == every)
    if step == 2 * self.config.sample_every_steps + self.per_call:
      self.clock += self.once

  def run(self):
    """Takes calls until the stopwatch ends the trial; returns their number."""
    began, calls, costs = self.clock, 0, self.costs
    self.clock += costs.start - costs.step * self.per_call
    while True:
      calls += 1
      self.clock += costs.step * self.per_call + self.cold * (calls < 5)
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
      self.pass_by(calls * self.per_call)
    self.clock += costs.end
    return calls, self.watch.costs(began, self.clock, self.config)


def config_of(**changes):
  return ConfigDict(INTERVALS | {'num_steps': 5} | changes)


@pytest.mark.parametrize('evaluate_every_steps', [0, 200])
def test_a_trial_tells_the_costs_apart(monkeypatch, evaluate_every_steps):
  config = config_of(
    checkpoint_every_steps=1000, evaluate_every_steps=evaluate_every_steps
  )
  calls, measured = Trial(monkeypatch, config, COSTS, seconds=600.0).run()
  assert 62 <= calls <= 250
  for name in ('start', 'end', 'step', 'report', 'picture', 'checkpoint'):
    expected = getattr(COSTS, name)
    assert getattr(measured, name) == pytest.approx(expected), name
  evaluation = COSTS.evaluation if evaluate_every_steps else 0.0
  assert measured.evaluation == pytest.approx(evaluation)


def test_calls_that_are_slow_at_first_count_for_the_start_alone(monkeypatch):
  config = config_of(checkpoint_every_steps=1000)
  trial = Trial(monkeypatch, config, COSTS, seconds=600.0)
  trial.cold = 2.0
  _, measured = trial.run()
  assert measured.step == pytest.approx(COSTS.step)
  assert measured.start == pytest.approx(COSTS.start + 2 * trial.cold)
  assert measured.report == pytest.approx(COSTS.report)
  assert measured.picture == pytest.approx(COSTS.picture)
  assert measured.checkpoint == pytest.approx(COSTS.checkpoint)


@pytest.mark.parametrize('seconds', [60.0, 300.0])
def test_a_run_that_does_all_in_a_few_calls_is_timed_as_it_is(
  monkeypatch, seconds
):
  """Such as a smoke run: a checkpoint costs more than many steps."""
  config = config_of(
    log_every_steps=2,
    sample_every_steps=4,
    checkpoint_every_steps=4,
    steps_per_call=1,
  )
  trial = Trial(monkeypatch, config, COSTS, seconds)
  trial.cold, trial.once = 0.5, 0.7
  _, measured = trial.run()
  assert trial.config.checkpoint_every_steps == 4
  assert trial.config.trackers == ('tensorboard',)
  num_steps = measured.steps_within(seconds, config)
  assert 0.95 * seconds < predicted(num_steps, config) < seconds


def test_slow_steps_are_few_in_a_trial(monkeypatch):
  config = config_of(steps_per_call=1)
  slow = Costs(start=20.0, end=2.0, step=3.0)
  calls, measured = Trial(monkeypatch, config, slow, seconds=60.0).run()
  assert calls == 5
  assert measured == slow


def test_fast_steps_are_many_in_a_trial(monkeypatch):
  config = config_of(steps_per_call=1)
  fast = Costs(start=1.0, end=0.1, step=1e-4)
  calls, measured = Trial(monkeypatch, config, fast, seconds=60.0).run()
  assert 20_000 < calls < 30_000
  assert measured.step == pytest.approx(1e-4)


def test_a_trial_has_the_intervals_of_a_run_that_does_all_in_a_few_calls():
  own = config_of(log_every_steps=10, sample_every_steps=20)
  trial = trial_lib.trial_config(own, own, True)
  for name in set(INTERVALS) - {'trackers'}:
    assert trial[name] == own[name]
  for name in ('log', 'sample', 'checkpoint'):
    assert trial.num_steps % own[f'{name}_every_steps'] == 0
  assert trial_lib.own_cycle(config_of(log_every_steps=7 * 5)) == 0


def test_only_the_longest_compilation_before_the_first_step_counts():
  compiling = trial_lib.Compiling()
  for seconds in (1.0, 8.0, 2.0):
    compiling(trial_lib._COMPILING, seconds, fun_name='step')
  compiling('/jax/core/compile/jaxpr_trace_duration', 50.0)
  compiling.is_over = True
  compiling(trial_lib._COMPILING, 9.0)
  assert compiling.longest == 8.0


@pytest.fixture
def cache():
  """Sets the folder of the compilation cache."""
  before = jax.config.jax_compilation_cache_dir
  yield lambda x: jax.config.update('jax_compilation_cache_dir', x)
  jax.config.update('jax_compilation_cache_dir', before)


@pytest.mark.parametrize('has_fixed_steps', [False, True])
def test_a_run_compiles_what_its_trial_need_not(
  monkeypatch, tmp_path, has_fixed_steps, cache
):
  """The trial finds the program of its rehearsal, the run its own anew."""
  cache(str(tmp_path / 'cache'))
  trained, own = [], config_of()

  def train(config, folder, hooks):
    seconds = 0.5 if trained else 8.0
    jax.monitoring.record_event_duration_secs(trial_lib._COMPILING, seconds)
    trained.append((folder.name, config.num_steps, len(hooks)))

  monkeypatch.setattr(trial_lib.Stopwatch, 'costs', lambda *unused: COSTS)
  folder = epath.Path(tmp_path)
  costs = time_limit._try(own, own, 60.0, folder, has_fixed_steps, train)
  assert costs.start == COSTS.start + 7.5 * has_fixed_steps
  (rehearsed, num_steps, _), (tried, same, _) = trained
  assert (rehearsed, tried) == ('rehearsal', 'trial')
  assert num_steps == same
  # Without a cache, both the trial and the run compile.
  cache(None)
  trained.clear()
  costs = time_limit._try(own, own, 60.0, folder, has_fixed_steps, train)
  assert costs.start == COSTS.start and len(trained) == 1


def test_a_rehearsal_ends_after_one_call():
  run = types.SimpleNamespace(config=config_of(num_steps=1000))
  trial_lib.rehearse(types.SimpleNamespace(run=run, is_start=True))
  assert run.config.num_steps == run.config.steps_per_call
