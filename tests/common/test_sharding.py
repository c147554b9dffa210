import jax
import numpy as np
import pytest

from common_flax import sharding


def step(state, batch, root, *, axis_name=None):
  del root, axis_name
  state = 3 * state + batch
  return state, {'twice': 2 * state}


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize('unroll_on_cpu', [True, False])
@pytest.mark.parametrize('num_steps', [1, 2, 3, 6])
def test_steps_in_one_call_are_taken_in_turn(
  num_steps, unroll_on_cpu, platform, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: platform)
  batches = np.arange(1, num_steps + 1, dtype=np.int32)
  expected = np.int32(0)
  for batch in batches:
    expected = 3 * expected + batch
  steps = sharding.in_one_call(step, num_steps, unroll_on_cpu=unroll_on_cpu)
  state, metrics = jax.jit(steps)(np.int32(0), batches, None)
  assert state == expected
  assert metrics['twice'] == 2 * expected
