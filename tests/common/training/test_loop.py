"""Several train steps in one call."""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax.cpu import loops
from common_flax.training import finite
from common_flax.training import loop


class State(struct.PyTreeNode):
  step: jax.Array
  value: jax.Array


def step(state, batch, root):
  del root
  value = 3 * state.value + batch
  return State(state.step + 1, value), {'twice': 2 * value, 'thrice': 3 * value}


def take(batches, **options):
  call = jax.jit(loop.chain_steps(step, len(batches), **options))
  state, metrics = call(State(np.int32(0), np.float32(0)), batches, None)
  return state, metrics.unpack()


@pytest.mark.parametrize('skip_not_finite', [False, True])
@pytest.mark.parametrize('unroll', [True, 1, 2])
@pytest.mark.parametrize('num_steps', [1, 2, 3, 6])
def test_steps_in_one_call_are_taken_in_turn(
  num_steps, unroll, skip_not_finite
):
  batches = np.arange(1, num_steps + 1, dtype=np.float32)
  expected = 0
  for batch in batches:
    expected = 3 * expected + batch
  state, metrics = take(batches, unroll=unroll, skip_not_finite=skip_not_finite)
  assert state.step == num_steps
  assert state.value == expected
  assert metrics.pop(finite.SKIPPED, 0) == 0
  assert metrics == {'twice': 2 * expected, 'thrice': 3 * expected}


def test_a_call_that_is_not_finite_changes_only_the_step():
  batches = np.array([1, jnp.inf, 2], np.float32)
  state, metrics = take(batches, unroll=True, skip_not_finite=True)
  assert (state.step, state.value) == (3, 0)
  assert metrics[finite.SKIPPED] == 3
  state, _ = take(batches, unroll=True, skip_not_finite=False)
  assert not np.isfinite(state.value)


@pytest.mark.parametrize(
  ('platform', 'is_convolutional', 'unroll'),
  [
    ('cpu', True, True),
    ('cpu', False, 2),
    ('gpu', True, 1),
    ('tpu', False, 1),
  ],
)
def test_a_cpu_writes_loops_out(
  platform, is_convolutional, unroll, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  assert loops.unroll(is_convolutional=is_convolutional) is unroll
