"""The train step: its start, its codebooks, and many devices."""

import functools

import jax
import numpy as np
import pytest
from small_vq import BATCH
from small_vq import batches
from small_vq import compiled
from small_vq import create
from small_vq import initial

from common_flax import prng
from common_flax.data.batches import join_each
from common_flax.distributed import sharding
from common_flax.training import loop
from vq_flax import generation
from vq_flax import steps

CELLS = BATCH * 2 * 2
MODELS = {
  'vq': {'dataset__flip': True},
  'residual': {'model__num_codebooks': 2, 'model__gradient': 'rotation'},
  'gradient': {
    'codebook__learning': 'gradient',
    'codebook__start': 'random',
    'codebook__restart_below': 0.0,
  },
  'fsq': {'model__name': 'fsq', 'model__levels': (3, 4)},
}


def close(actual, expected, rtol):
  for a, b in zip(*map(jax.tree.leaves, (actual, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol, rtol * max(1e-3, np.abs(b).max()))


@pytest.mark.parametrize('name', MODELS)
def test_a_step_changes_all_weights(name):
  vq = create(**MODELS[name])
  state = initial(vq)
  new, metrics = compiled(vq)(state, batches(1)[0], prng.root_key(0))
  assert new.step == 1
  changed = [
    not np.array_equal(a, b)
    for a, b in zip(
      *map(jax.tree.leaves, (state.params, new.params)), strict=True
    )
  ]
  assert all(changed)
  assert set(metrics) == {
    'loss_nats',
    'reconstruction_nats',
    'commitment',
    'perplexity',
    'grad_norm',
  }
  assert 1 <= metrics['perplexity'] <= vq.quantiser.num_codes
  assert (new.usage is None) == (name == 'fsq')


def test_codebooks_start_at_clusters_of_the_first_batch_alone():
  vq = create(codebook__decay=0.0, codebook__restart_below=0.0)
  step, root = compiled(vq), prng.root_key(0)
  state, _ = step(initial(vq), batches(2)[0], root)
  # With a decay of 0 the averages are those of the first batch.
  assert state.usage.counts.sum() == pytest.approx(CELLS)
  assert (state.usage.counts > 0).all()
  kept = np.asarray(state.params['codebooks'])
  frozen = create(codebook__decay=1 - 1e-7, codebook__restart_below=0.0)
  state, _ = compiled(frozen)(state, batches(2)[1], root)
  np.testing.assert_allclose(state.params['codebooks'], kept, rtol=1e-4)


def test_entries_are_the_averages_of_what_chose_them():
  vq = create(codebook__decay=0.9, codebook__restart_below=0.0)
  step, root = compiled(vq), prng.root_key(0)
  state = initial(vq)
  for batch in batches(3):
    state, _ = step(state, batch, root)
    np.testing.assert_allclose(
      state.params['codebooks'],
      state.usage.sums / state.usage.counts[..., None],
      rtol=1e-5,
    )


def test_the_loss_adds_the_distances_that_are_trained():
  found = {}
  x = (batches(1)[0, 0] > 127).astype(np.float32)
  for name in ('vq', 'gradient'):
    vq = create(**MODELS[name], commitment=0.5)
    params = initial(vq).params
    value, (terms, quantised) = jax.jit(functools.partial(steps.loss, vq))(
      params, x
    )
    gap = np.asarray(quantised.inputs) - np.asarray(quantised.entries)
    distance = float(np.sum(gap**2)) / BATCH
    assert terms['commitment'] == pytest.approx(distance, rel=1e-5)
    found[name] = float(value + terms['reconstruction_nats']) / distance
  assert found['vq'] == pytest.approx(0.5, rel=1e-4)
  assert found['gradient'] == pytest.approx(1.5, rel=1e-4)


@pytest.mark.parametrize('name', ['vq', 'fsq'])
def test_the_loss_falls_on_a_fixed_batch(name):
  changes = {'model__num_codes': 32} if name == 'vq' else MODELS[name]
  vq = create(**changes, dataset__binarise='threshold')
  batch = np.tile(batches(1)[0, :, :4], (1, BATCH // 4, 1, 1, 1))
  state, root, step = initial(vq), prng.root_key(0), compiled(vq)
  values = []
  for _ in range(300):
    state, metrics = step(state, batch, root)
    values.append(float(metrics['reconstruction_nats']))
  assert values[0] < -10
  assert np.mean(values[-20:]) > -6


@functools.cache
def train_on(name, kind, num_devices):
  """The state and last metrics after some steps, in float64."""
  kinds = {'jit': sharding.JitOverMesh, 'pmap': sharding.PmapOverMesh}
  parallel = kinds[kind](sharding.create_mesh(jax.devices()[:num_devices]))
  vq = create('float64', parallel.axis, **MODELS[name])
  step = parallel.compile(
    loop.chain_steps(
      functools.partial(steps.train_step, vq),
      1,
      skip_not_finite=False,
      unroll=True,
    )
  )
  state = parallel.spread(initial(vq))
  for group in join_each(iter(batches(6)), 1):
    state, metrics = step(state, parallel.put_batches(group), prng.root_key(0))
  return jax.device_get(parallel.gather(state)), parallel.local(
    metrics
  ).unpack()


@pytest.mark.parametrize('kind', ['jit', 'pmap'])
@pytest.mark.parametrize(
  'name', ['residual', pytest.param('fsq', marks=pytest.mark.slow)]
)
def test_steps_are_the_same_on_many_devices(name, kind):
  with jax.enable_x64(True):
    expected, actual = train_on(name, 'jit', 1), train_on(name, kind, 8)
  assert actual[0].step == 6
  close(actual, expected, 1e-9)


@pytest.mark.parametrize('name', ['residual', 'gradient', 'fsq'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_colour_images_of_any_shape_are_encoded_and_decoded(name, dtype):
  shape = (5, 7, 3)  # no multiples of a cell
  vq = create(
    dtype,
    shape=shape,
    **MODELS[name],
    dataset__binarise='none',
    likelihood='logistic_mixture',
  )
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (1, 4, *shape), np.uint8)
  state, metrics = compiled(vq)(initial(vq), images, prng.root_key(0))
  assert all(np.isfinite(value) for value in metrics.values())
  assert metrics['loss_nats'].dtype == np.float32
  x = generation.observe(vq, jax.random.key(0), images[0])
  codes = generation.encode(vq, state.params, x)
  assert codes.shape == (4, 3, 4, vq.quantiser.codes_per_cell)
  decoded = generation.decode(vq, state.params, codes)
  assert decoded.shape == (4, *shape)
  assert decoded.dtype == np.uint8


def test_a_new_entry_is_new_in_the_moving_average_too():
  vq = create(codebook__restart_below=9.0, codebook__decay=0.5)
  state, root, step = initial(vq), prng.root_key(0), compiled(vq)
  is_new_once = False
  for batch in batches(4):
    before = np.asarray(state.params['codebooks'])
    state, _ = step(state, batch, root)
    same = (state.ema_params['codebooks'] == state.params['codebooks']).all(-1)
    counts = np.asarray(state.usage.counts)
    moved = np.abs(np.asarray(state.params['codebooks']) - before).sum(-1)
    is_new = np.isclose(counts, counts.max()) & (moved > 0)
    is_new_once |= bool((is_new & same).any())
  assert is_new_once


def test_a_batch_of_fewer_cells_than_codes_starts_them_all():
  vq = create(model__num_codes=100, codebook__restart_below=0.0)
  state, _ = compiled(vq)(initial(vq), batches(1)[0], prng.root_key(0))
  assert np.isfinite(state.params['codebooks']).all()
  assert (state.usage.counts > 0).all()


def test_images_are_spread_over_a_source_that_is_ordered_by_class():
  np.testing.assert_array_equal(generation.spread(10, 4), [0, 3, 6, 9])
  np.testing.assert_array_equal(generation.spread(3, 500), [0, 1, 2])
