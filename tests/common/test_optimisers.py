"""Adam: schedules, clipping, moving average, checks of the config."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from common_flax import optimisers
from common_flax.errors import UserError

NUM_UPDATES = 8
RATE = 0.01


def fields(**changes):
  config = optimisers.default(learning_rate=RATE, b1=0.9, b2=0.999)
  config.update(changes)
  return config


def sizes_of_updates(config, gradient=2.0):
  """What Adam subtracts under one gradient forever: the learning rate."""
  tx = optimisers.create(config, NUM_UPDATES)
  gradients = {'w': jnp.full(3, gradient)}
  state = tx.init(gradients)
  step = jax.jit(tx.update)
  sizes = []
  for _ in range(NUM_UPDATES + 2):
    updates, state = step(gradients, state)
    sizes.append(-float(updates['w'][0]))
  return np.array(sizes)


@pytest.mark.parametrize(
  ('schedule', 'shape'),
  [
    ('constant', np.ones_like),
    ('linear', lambda share: 1 - share),
    ('cosine', lambda share: 0.5 * (1 + np.cos(np.pi * share))),
  ],
)
def test_schedules_start_at_the_learning_rate_and_end_at_zero(schedule, shape):
  share = np.minimum(np.arange(NUM_UPDATES + 2) / NUM_UPDATES, 1)
  np.testing.assert_allclose(
    sizes_of_updates(fields(schedule=schedule)),
    RATE * shape(share),
    rtol=1e-4,
    atol=1e-9,
  )


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_schedules_end_at_the_final_share(schedule):
  sizes = sizes_of_updates(fields(schedule=schedule, final_share=0.25))
  np.testing.assert_allclose(sizes[0], RATE, rtol=1e-4)
  np.testing.assert_allclose(sizes[-2:], 0.25 * RATE, rtol=1e-4)


def test_adam_uses_the_decays_of_its_config():
  tx = optimisers.create(fields(b1=0.8, b2=0.95), NUM_UPDATES)
  gradients = [1.0, -3.0, 0.5]
  state = tx.init(jnp.zeros(()))
  first = second = 0.0
  for i, gradient in enumerate(gradients, 1):
    update, state = tx.update(jnp.float32(gradient), state)
    first = 0.8 * first + 0.2 * gradient
    second = 0.95 * second + 0.05 * gradient**2
    expected = -RATE * (first / (1 - 0.8**i))
    expected /= np.sqrt(second / (1 - 0.95**i)) + 1e-8
    assert update == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('schedule', ['constant', 'cosine'])
def test_b2_moves_along_a_cosine(schedule):
  config = fields(b1=0.0, b2=0.9, final_b2=0.99, schedule=schedule)
  tx = optimisers.create(config, num_updates=4)
  state = tx.init(jnp.zeros(()))
  second = 0.0
  for i, gradient in enumerate([1.0, -3.0, 0.5, 2.0, 1.0, -1.0]):
    update, state = tx.update(jnp.float32(gradient), state)
    left = 0.5 * (1 + np.cos(np.pi * min(i / 4, 1)))
    b2 = 0.99 - 0.09 * left
    second = b2 * second + (1 - b2) * gradient**2
    rate = RATE * (left if schedule == 'cosine' else 1)
    expected = -rate * gradient / (np.sqrt(second / (1 - b2 ** (i + 1))) + 1e-8)
    assert update == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(('norm', 'expected'), [(20.0, 10.0), (6.0, 6.0)])
def test_a_gradient_longer_than_the_limit_is_shortened_to_it(norm, expected):
  """Direction kept, shorter ones left alone; Adam's first moment has a tenth.

  The norm is of all parameters together.
  """
  tx = optimisers.create(fields(max_grad_norm=10.0), NUM_UPDATES)
  gradients = {'a': jnp.array([0.6 * norm]), 'b': jnp.array([[0.8 * norm]])}
  _, state = tx.update(gradients, tx.init(gradients))
  (moments,) = (
    x.mu
    for x in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, 'mu'))
    if hasattr(x, 'mu')
  )
  np.testing.assert_allclose(moments['a'], [0.06 * expected], rtol=1e-6)
  np.testing.assert_allclose(moments['b'], [[0.08 * expected]], rtol=1e-6)


def test_moving_average_warms_up():
  decay = 0.3
  random = np.random.default_rng(0)
  average = {'w': jnp.zeros((2, 3)), 'b': jnp.ones(3)}
  expected = jax.tree.map(np.asarray, average)
  step = jax.jit(optimisers.moving_average)
  kept = []
  for t in range(6):
    params = {'w': random.normal(size=(2, 3)), 'b': random.normal(size=3)}
    params = jax.tree.map(lambda x: x.astype(np.float32), params)
    average = step(average, params, decay, jnp.int32(t))
    kept.append(min(decay, (1 + t) / (10 + t)))
    expected = jax.tree.map(
      lambda a, p: kept[-1] * a + (1 - kept[-1]) * p, expected, params
    )
    for name, value in expected.items():
      np.testing.assert_allclose(average[name], value, rtol=1e-5, atol=1e-6)
  assert kept[0] == 0.1
  assert kept[-1] == decay  # at an end of the warm-up, too


def test_the_half_life_of_an_average_grows_along_a_cosine():
  num_steps, half_life = 8, 5.0
  decay = 0.5 ** (1 / half_life)
  average, expected = jnp.zeros(()), 0.0
  for t in range(num_steps + 2):
    param = float(t + 1)
    average = optimisers.moving_average(
      average, jnp.float32(param), decay, jnp.int32(t), num_steps
    )
    share = 0.5 * (1 - np.cos(np.pi * min((t + 1) / num_steps, 1)))
    kept = 0.5 ** (1 / (half_life * share))
    expected = kept * expected + (1 - kept) * param
    assert float(average) == pytest.approx(expected, rel=1e-5)
  assert kept == pytest.approx(decay)


@pytest.mark.parametrize('num_steps', [None, 20])
def test_no_decay_is_no_average(num_steps):
  params = jnp.array([1.0, -2.0])
  average = optimisers.moving_average(
    jnp.zeros(2), params, 0.0, jnp.int32(9), num_steps
  )
  np.testing.assert_array_equal(average, params)


def test_parameters_at_rest_equal_their_average():
  """Rounding does not move the average."""
  params = jax.random.normal(jax.random.key(0), (100,))
  average = params
  for t in range(50):
    average = optimisers.moving_average(average, params, 0.999, jnp.int32(t))
  np.testing.assert_array_equal(average, params)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.float64])
def test_an_average_keeps_its_type(dtype):
  with jax.enable_x64(True):
    params = jnp.ones(2, dtype)
    average = optimisers.moving_average(params, params, 0.9, jnp.int32(3))
    assert average.dtype == dtype


def test_the_default_is_accepted():
  for changes in (
    {},
    {'max_grad_norm': 1.0},
    {'schedule': 'cosine', 'b1': 0.0},
  ):
    config = ConfigDict({'optimizer': fields(**changes)})
    optimisers.check(config, 'optimizer')


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('schedule', 'exponential'),
    ('learning_rate', 0.0),
    ('learning_rate', -1.0),
    ('learning_rate', float('inf')),
    ('learning_rate', float('nan')),
    ('b1', 1.0),
    ('b1', -0.1),
    ('b2', 1.0),
    ('b2', float('nan')),
    ('max_grad_norm', 0.0),
    ('max_grad_norm', -1.0),
    ('max_grad_norm', float('nan')),
  ],
)
def test_a_wrong_field_is_named(field, value):
  config = ConfigDict({'player': fields(**{field: value})})
  with pytest.raises(UserError, match=rf'^config\.player\.{field}='):
    optimisers.check(config, 'player')


def test_large_updates_are_skipped_but_never_all():
  """At most two in a row; the third is made, and the count starts anew."""
  config = fields(skip_grad_norm=1.0, skip_at_most=2)
  sizes = sizes_of_updates(config, gradient=2.0)
  is_made = sizes > 0
  np.testing.assert_array_equal(is_made, [False, False, True] * 3 + [False])
  assert (sizes_of_updates(config, gradient=0.5) > 0).all()


def test_a_skipped_update_leaves_the_optimiser_as_it_was():
  tx = optimisers.create(fields(skip_grad_norm=1.0), NUM_UPDATES)
  small, large = {'w': jnp.full(3, 0.1)}, {'w': jnp.full(3, 9.0)}
  _, state = tx.update(small, tx.init(small))
  updates, after = tx.update(large, state)
  np.testing.assert_array_equal(updates['w'], 0)
  for old, new in zip(
    *map(jax.tree.leaves, (state.inner, after.inner)), strict=True
  ):
    np.testing.assert_array_equal(old, new)
  straight, _ = tx.update(small, state)
  skipped, last = tx.update(small, after)
  np.testing.assert_array_equal(straight['w'], skipped['w'])
  assert last.num_skipped == 0


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_gradients_that_are_not_finite_are_not_skipped(value):
  tx = optimisers.create(fields(skip_grad_norm=1.0), NUM_UPDATES)
  gradients = {'w': jnp.full(3, value)}
  updates, _ = tx.update(gradients, tx.init(gradients))
  assert not np.isfinite(updates['w']).any()
