"""Runs whose numbers are not finite: they stop, skip the step or roll back."""

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

from common_flax.errors import TrainingFailedError
from common_flax.errors import UserError
from common_flax.training import finite
from common_flax.training import loop
from common_flax.training.meter import Meter
from common_flax.training.meter import PackedMetrics
from gan_flax import steps
from gan_flax.train import train

BAD = 5  # the step that goes wrong
train_step = steps.train_step


def infinite_at_bad(gan, state, batch, root):
  """Makes the discriminator infinite at one step of the first attempt."""
  after, metrics = train_step(gan, state, batch, root)
  is_bad = (state.step == BAD) & (state.attempt == 0)
  net = after.discriminator
  params = jax.tree.map(lambda x: jnp.where(is_bad, jnp.inf, x), net.params)
  return after.replace(discriminator=net.replace(params=params)), metrics


def nan_from_bad(gan, state, batch, root):
  """Makes every metric NaN from one step on."""
  after, metrics = train_step(gan, state, batch, root)
  is_bad = state.step >= BAD
  return after, {k: jnp.where(is_bad, jnp.nan, x) for k, x in metrics.items()}


def nothing_at_bad(gan, state, batch, root):
  """Leaves the state as it was at one step."""
  after, metrics = train_step(gan, state, batch, root)
  before = state.replace(step=after.step)
  kept = jax.tree.map(
    lambda new, old: jnp.where(state.step == BAD, old, new), after, before
  )
  return kept, metrics


def small(**changes):
  return points_run(**{'log_every_steps': 4, 'keep_checkpoints': 10} | changes)


@pytest.fixture
def bad(monkeypatch):
  """Makes the discriminator infinite at one step of the first attempt."""
  monkeypatch.setattr(steps, 'train_step', infinite_at_bad)


def test_a_run_stops_and_names_the_step_that_went_wrong(bad, tmp_path, capsys):
  with pytest.raises(TrainingFailedError) as raised:
    train(small(), tmp_path)
  error = str(raised.value)
  assert error.startswith(
    'step 6: parameters not finite; before it, the whole '
  )
  assert 'state was finite (largest number ' in error
  assert 'after it, the state was not finite in discriminator.params.' in error
  assert '\n' not in error
  output = capsys.readouterr().out
  assert 'Repeating steps 5 to 6 to find the cause.' in output
  assert saved_steps(tmp_path) == [2, 4]  # all of them finite


def test_metrics_that_are_not_finite_stop_a_run_when_reported(
  monkeypatch, tmp_path
):
  monkeypatch.setattr(steps, 'train_step', nan_from_bad)
  with pytest.raises(TrainingFailedError, match='step 6: d_accuracy, '):
    train(small(checkpoint_every_steps=8), tmp_path)
  (_, row) = read_metrics(tmp_path)
  assert row['step'] == 8
  assert row['d_loss'] is None  # JSON has no NaN


def test_a_rollback_draws_new_random_numbers(bad, tmp_path, capsys):
  assert train(small(on_nan='rollback'), tmp_path) is None
  output = capsys.readouterr().out
  assert 'Step 6: parameters not finite; ' in output
  assert 'Going back to step 4 with new random draws: attempt 1 of 3' in output
  state = final_state(tmp_path)
  assert state.attempt == 1
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
  assert [row['step'] for row in read_metrics(tmp_path)] == [4, 8]


@pytest.mark.slow
def test_rollbacks_come_to_an_end(monkeypatch, tmp_path):
  monkeypatch.setattr(steps, 'train_step', nan_from_bad)
  config = small(on_nan='rollback', on_nan_max_rollbacks=1)
  with pytest.raises(TrainingFailedError, match=r'after 1 rollback\.'):
    train(config, tmp_path)


@pytest.mark.slow  # compiles two programs
def test_a_skipped_step_changes_nothing(monkeypatch, bad, tmp_path, capsys):
  """Parameters, optimisers and the draws of later steps stay the same."""
  assert train(small(on_nan='skip'), tmp_path / 'skips') is None
  assert ': 1 step skipped' in capsys.readouterr().out
  monkeypatch.setattr(steps, 'train_step', nothing_at_bad)
  assert train(small(on_nan='warn'), tmp_path / 'nothing') is None
  assert_same_arrays(
    final_state(tmp_path / 'skips'), final_state(tmp_path / 'nothing')
  )
  rows = read_metrics(tmp_path / 'skips')
  assert [row['skipped_steps'] for row in rows] == [0, 1]
  assert all(np.isfinite(row['d_loss']) for row in rows)


@pytest.mark.slow
def test_skipped_steps_are_limited(monkeypatch, tmp_path):
  monkeypatch.setattr(steps, 'train_step', nan_from_bad)
  config = small(on_nan='skip', on_nan_max_skips=2)
  with pytest.raises(TrainingFailedError, match='on_nan_max_skips=2'):
    train(config, tmp_path)


@pytest.mark.slow
def test_a_run_may_go_on_with_a_warning(bad, tmp_path, capsys):
  assert train(small(on_nan='warn'), tmp_path) is None
  assert 'not finite; training has diverged' in capsys.readouterr().out
  assert saved_steps(tmp_path) == [2, 4, 6, 8]


class Count(struct.PyTreeNode):
  """A state that adds up the batches."""

  step: jax.Array
  total: jax.Array


def add(state, number, unused_root):
  after = state.replace(step=state.step + 1, total=state.total + number)
  return after, {'loss': number}


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_call_of_several_steps_is_skipped_whole(bad):
  call = jax.jit(loop.chain_steps(add, 3, skip_not_finite=True, unroll=True))
  state = Count(np.int32(6), np.float32(1))
  # The second of three steps is bad; metrics are those of the third.
  after, metrics = call(state, np.array([1, bad, 2], np.float32), None)
  assert (after.step, after.total) == (9, 1)
  assert metrics.unpack()['skipped_steps'] == 3
  after, metrics = call(state, np.array([1, 1, 2], np.float32), None)
  assert (after.step, after.total) == (9, 5)
  assert metrics.unpack() == {'loss': 2, 'skipped_steps': 0}


def test_the_first_bad_call_is_found():
  rows = [
    {'a': 1.0, 'b': 0.0},
    {'a': 1.0, 'b': np.inf},
    {'a': np.nan, 'b': 1.0},
  ]
  assert finite.first_bad(rows) == (1, ['b'])
  assert finite.first_bad(rows[:1]) is None


def test_means_exclude_skipped_steps():
  meter = Meter(lambda tree: tree)
  for values in ([1, 0], [np.nan, 2], [3, 0]):
    names = ('loss', 'skipped_steps')
    meter.add(PackedMetrics(jnp.array(values), names), 2)
  assert meter.first_bad() is None
  means, _ = meter.read()
  assert means == {'loss': 2, 'skipped_steps': 2}


def test_describe_names_the_largest_or_the_bad_numbers():
  state = {'a': np.array([1.0, -7.0]), 'b': {'c': np.float32(3)}}
  assert finite.describe(state) == (
    'the whole state was finite (largest number 7 in a)'
  )
  state['b']['c'] = np.array([np.nan, 1, np.inf])
  assert finite.describe(state) == (
    'the state was not finite in b.c (2 of 3 numbers)'
  )


def test_several_runs_at_once_do_not_skip(tmp_path):
  with pytest.raises(UserError, match='several runs at once'):
    train(small(num_seeds=2, on_nan='skip'), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
