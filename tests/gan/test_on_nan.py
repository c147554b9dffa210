"""What runs do where numbers are not finite: stop, skip, go back.

The step at `BAD` makes parameters of the discriminator infinite.
"""

from conftest import assert_same_arrays
from conftest import final_state
from conftest import points_run
from conftest import read_metrics
from conftest import saved_steps
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import finite
from common_flax.alarms import TrainingFailedError
from common_flax.config import UserError
from common_flax.meter import Meter
from common_flax.meter import Packed
from gan_flax import steps
from gan_flax.train import train

BAD = 5
train_step = steps.train_step


def infinite_at_bad(gan, state, batch, root, *, axis_name=None):
  """A step that goes wrong once, in a first attempt."""
  after, metrics = train_step(gan, state, batch, root, axis_name=axis_name)
  is_bad = (state.step == BAD) & (state.attempt == 0)
  net = after.discriminator
  params = jax.tree.map(lambda x: jnp.where(is_bad, jnp.inf, x), net.params)
  return after.replace(discriminator=net.replace(params=params)), metrics


def nan_from_bad(gan, state, batch, root, *, axis_name=None):
  """Steps whose metrics are no numbers from then on."""
  after, metrics = train_step(gan, state, batch, root, axis_name=axis_name)
  is_bad = state.step >= BAD
  return after, {k: jnp.where(is_bad, jnp.nan, x) for k, x in metrics.items()}


def nothing_at_bad(gan, state, batch, root, *, axis_name=None):
  """The step of a run that skips, as it should be."""
  after, metrics = train_step(gan, state, batch, root, axis_name=axis_name)
  before = state.replace(step=after.step)
  kept = jax.tree.map(
    lambda new, old: jnp.where(state.step == BAD, old, new), after, before
  )
  return kept, metrics


def small(**changes):
  return points_run(**{'log_every_steps': 4, 'keep_checkpoints': 10} | changes)


@pytest.fixture
def bad(monkeypatch):
  """Runs that go wrong once."""
  monkeypatch.setattr(steps, 'train_step', infinite_at_bad)


def test_a_run_stops_and_says_where_it_went_wrong(bad, tmp_path, capsys):
  with pytest.raises(TrainingFailedError) as raised:
    train(small(), tmp_path)
  error = str(raised.value)
  assert error.startswith(
    'step 6: parameters not finite; before it all of the '
  )
  assert 'state is finite, the largest number ' in error
  assert 'after it of the state discriminator.params.' in error
  assert '\n' not in error
  assert 'Taking the steps 5 to 6 again to see.' in capsys.readouterr().out
  assert saved_steps(tmp_path) == [2, 4]  # and nothing that is not finite


def test_metrics_that_are_not_finite_are_seen_when_they_are_reported(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(steps, 'train_step', nan_from_bad)
  with pytest.raises(TrainingFailedError, match='step 6: d_accuracy, '):
    train(small(checkpoint_every_steps=8), tmp_path)
  (_, row) = read_metrics(tmp_path)
  assert row['step'] == 8
  assert row['d_loss'] is None  # as JSON says it


def test_a_run_goes_back_and_draws_anew(bad, tmp_path, capsys):
  assert train(small(on_nan='rollback'), tmp_path) is None
  output = capsys.readouterr().out
  assert 'Step 6: parameters not finite; ' in output
  assert (
    'Going back to step 4 to draw everything anew: attempt 1 of 3' in output
  )
  state = final_state(tmp_path)
  assert state.attempt == 1
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
  assert [row['step'] for row in read_metrics(tmp_path)] == [4, 8]


@pytest.mark.slow
def test_rollbacks_come_to_an_end(monkeypatch, tmp_path):
  monkeypatch.setattr(steps, 'train_step', nan_from_bad)
  config = small(on_nan='rollback', on_nan_max_rollbacks=1)
  with pytest.raises(TrainingFailedError, match='Stopped after 1 rollbacks'):
    train(config, tmp_path)


@pytest.mark.slow  # programs of their own
def test_a_skipped_step_changes_nothing(monkeypatch, bad, tmp_path, capsys):
  """Neither parameters nor optimisers, nor what later steps draw."""
  assert train(small(on_nan='skip'), tmp_path / 'skips') is None
  assert ': 1 steps skipped' in capsys.readouterr().out
  monkeypatch.setattr(steps, 'train_step', nothing_at_bad)
  assert train(small(on_nan='warn'), tmp_path / 'nothing') is None
  assert_same_arrays(
    final_state(tmp_path / 'skips'), final_state(tmp_path / 'nothing')
  )
  rows = read_metrics(tmp_path / 'skips')
  assert [row['skipped_steps'] for row in rows] == [0, 1]
  assert all(np.isfinite(row['d_loss']) for row in rows)


@pytest.mark.slow
def test_a_run_skips_no_more_than_it_may(monkeypatch, tmp_path):
  monkeypatch.setattr(steps, 'train_step', nan_from_bad)
  config = small(on_nan='skip', on_nan_max_skips=2)
  with pytest.raises(TrainingFailedError, match='on_nan_max_skips=2'):
    train(config, tmp_path)


@pytest.mark.slow
def test_a_run_may_go_on_all_the_same(bad, tmp_path, capsys):
  assert train(small(on_nan='warn'), tmp_path) is None
  assert 'not finite; training has diverged' in capsys.readouterr().out
  assert saved_steps(tmp_path) == [2, 4, 6, 8]


class Count(struct.PyTreeNode):
  """A state that grows by what it is given."""

  step: jax.Array
  total: jax.Array


def add(state, numbers, unused_root, *, axis_name=None):
  del axis_name
  total = state.total + numbers.sum()
  after = state.replace(step=state.step + len(numbers), total=total)
  return after, {'loss': numbers[-1]}


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_call_of_several_steps_is_skipped_whole(bad):
  skipping = jax.jit(finite.skipping(add, 3))
  state = Count(np.int32(6), np.float32(1))
  # In the second of three steps; the metrics are of the last one.
  after, metrics = skipping(state, np.array([1, bad, 2], np.float32), None)
  assert (after.step, after.total) == (9, 1)
  assert metrics['skipped_steps'] == 3
  after, metrics = skipping(state, np.array([1, 1, 2], np.float32), None)
  assert (after.step, after.total) == (9, 5)
  assert metrics['skipped_steps'] == 0


def test_the_first_bad_call_is_told_from_later_ones():
  rows = [
    {'a': 1.0, 'b': 0.0},
    {'a': 1.0, 'b': np.inf},
    {'a': np.nan, 'b': 1.0},
  ]
  assert finite.first_bad(rows) == (1, ['b'])
  assert finite.first_bad(rows[:1]) is None


def test_means_leave_skipped_steps_out():
  meter = Meter()
  for values in ([1, 0], [np.nan, 2], [3, 0]):
    meter.add(Packed(jnp.array(values), ('loss', 'skipped_steps')), 2)
  assert meter.first_bad(lambda tree: tree) is None
  means, _ = meter.read(lambda tree: tree)
  assert means == {'loss': 2, 'skipped_steps': 2}


def test_a_state_is_described_by_its_largest_number_or_by_what_is_bad():
  state = {'a': np.array([1.0, -7.0]), 'b': {'c': np.float32(3)}}
  assert finite.describe(state) == (
    'all of the state is finite, the largest number 7 in a'
  )
  state['b']['c'] = np.array([np.nan, 1, np.inf])
  assert finite.describe(state) == (
    'of the state b.c (2 of 3 numbers) are not finite'
  )


def test_several_runs_at_once_do_not_skip(tmp_path):
  with pytest.raises(UserError, match='several runs at once'):
    train(small(num_seeds=2, on_nan='skip'), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
