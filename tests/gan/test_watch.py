"""The collapse watch: its measures against NumPy, its verdicts on metrics."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common_flax import data
from common_flax import prng
from common_flax.training import seeds as seeds_lib
from gan_flax import batches
from gan_flax import config as gan_config
from gan_flax.gan import create_gan
from gan_flax.state import init_state
from gan_flax.watch import judgement
from gan_flax.watch import measures


def expected_distance(x):
  """Mean distance over all pairs, by its definition, in float64."""
  x = np.asarray(x, np.float64).reshape(len(x), -1)
  distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
  return distances[~np.eye(len(x), dtype=bool)].mean()


@pytest.mark.parametrize('offset', [0.0, 1000.0])
def test_mean_distance_is_over_all_pairs(offset):
  random = np.random.default_rng(0)
  x = np.float32(random.normal(offset, 1.0, (40, 3, 5)))
  distance = measures.mean_distance(jnp.asarray(x))
  assert distance == pytest.approx(expected_distance(x), rel=1e-5)


def test_equal_examples_have_no_distance():
  x = np.random.default_rng(0).normal(10.0, 1.0, (1, 20))
  x = jnp.asarray(np.repeat(x, 30, axis=0), jnp.float32)
  assert measures.mean_distance(x) < 1e-4


def create(name='dcgan', shape=(16, 16, 1), **changes):
  config = gan_config.default().unlock()
  config.update_from_flattened_dict(
    {
      'model.name': name,
      'model.base_features': 4,
      'model.latent_size': 8,
      **changes,
    }
  )
  return create_gan(config, shape)


@pytest.fixture(scope='module')
def of_points():
  return create('mlp', (2,), **{'dataset.name': 'ring'})


@pytest.fixture(scope='module')
def points():
  source = data.load_source('ring', 'train', 0)
  return np.stack([source[i]['point'] for i in range(400)])


def cells(images, size):
  """Averages of images over cells of `size` pixels, in the units of samples."""
  num, side, _, channels = images.shape
  x = images.astype(np.float64) / 127.5 - 1
  x = x.reshape(num, side // size, size, side // size, size, channels)
  return x.mean(axis=(2, 4))


@pytest.mark.parametrize(('side', 'size'), [(8, 1), (16, 2), (28, 4), (64, 8)])
def test_images_are_compared_by_averages_over_cells(side, size):
  images = np.random.default_rng(0).integers(
    0, 256, (20, side, side, 1), np.uint8
  )
  real = measures.reference(create(), images)
  expected = cells(images, size)
  np.testing.assert_allclose(real.features, expected.reshape(20, -1), atol=1e-5)
  assert real.spread == pytest.approx(expected_distance(expected), rel=1e-4)


def test_roughness_is_the_energy_of_what_neighbours_do_not_predict():
  ramp = np.arange(16.0)[:, None] + 2 * np.arange(16.0)
  assert measures.roughness(jnp.asarray(ramp[None, ..., None])) < 1e-9
  board = np.indices((16, 16)).sum(0) % 2 * 2.0 - 1  # each beside its opposite
  board = jnp.asarray(board[None, ..., None], jnp.float32)
  assert measures.roughness(board) == pytest.approx(4.0)


def test_points_are_compared_by_their_coordinates(of_points, points):
  real = measures.reference(of_points, points)
  np.testing.assert_array_equal(real.features, points)
  assert real.spread == pytest.approx(expected_distance(points), rel=1e-5)
  assert real.roughness == 0


def test_the_spread_within_classes_is_over_pairs_of_the_same_label():
  random = np.random.default_rng(0)
  labels = random.integers(0, 3, 20).astype(np.int32)
  images = random.integers(0, 256, (20, 8, 8, 1), np.uint8)
  pairs = [
    expected_distance(x) * len(x) * (len(x) - 1)
    for x in (cells(images[labels == k], 1) for k in range(3))
  ]
  counts = np.bincount(labels)
  real = measures.reference(create(), images, labels)
  assert real.class_spread == pytest.approx(
    sum(pairs) / np.sum(counts * (counts - 1)), rel=1e-4
  )
  alone = measures.reference(create(), images[:3], np.arange(3, dtype=np.int32))
  assert alone.class_spread is None


@pytest.fixture(scope='module')
def state(of_points):
  return jax.jit(lambda: init_state(of_points, prng.root_key(0)))()


def of_constants(state):
  """A state whose generator maps every latent to the same point."""
  params = dict(state.generator.params)
  params['point'] = jax.tree.map(jnp.zeros_like, params['point'])
  return state.replace(generator=state.generator.replace(params=params))


def with_spread(spread, features=((0.0, 0.0),)):
  """A reference of points with a given spread."""
  x = jnp.asarray(features, jnp.float32)
  return measures.Reference(x, jnp.float32(spread), None, jnp.float32(0))


def test_a_constant_generator_has_no_diversity(of_points, state):
  root = prng.root_key(0)
  constant = measures.measure(
    of_points, with_spread(2.0), root, of_constants(state)
  )
  assert constant['diversity'] == constant['latent_response'] == 0
  usual = measures.measure(of_points, with_spread(2.0), root, state)
  assert min(usual.values()) > 1e-3


def test_the_measure_always_uses_the_same_latents(of_points, state):
  root = prng.root_key(0)
  first = measures.measure(of_points, with_spread(2.0), root, state)
  later = state.replace(step=state.step + 7, attempt=state.attempt + 1)
  assert measures.measure(of_points, with_spread(2.0), root, later) == first
  assert measures.measure(of_points, with_spread(4.0), root, state)[
    'diversity'
  ] == (pytest.approx(first['diversity'] / 2))
  assert (
    measures.measure(of_points, with_spread(2.0), prng.root_key(1), state)
    != first
  )


def drawing(draw):
  """A GAN whose generator is the function `draw` of its latents, [N, 2]."""

  def apply(unused_variables, latents, unused_labels, **unused_options):
    return draw(latents), {}

  generator = types.SimpleNamespace(apply=apply)
  return types.SimpleNamespace(
    generator=generator,
    latent_size=2,
    latent_distribution='normal',
    is_conditional=False,
    is_of_points=True,
    dtype=jnp.float32,
  )


def test_real_examples_have_diversity_one(of_points, points, state):
  gan = drawing(lambda latents: jnp.asarray(points[: len(latents)]))
  real = measures.reference(of_points, points)
  measured = measures.measure.__wrapped__(gan, real, prng.root_key(0), state)
  assert measured['diversity'] == pytest.approx(1.0, abs=0.15)
  assert measured['latent_response'] == 0


def test_latent_response_is_that_to_a_quarter_of_the_way(state):
  gan = drawing(lambda latents: latents)
  measured = measures.measure.__wrapped__(
    gan, with_spread(2.0), prng.root_key(0), state
  )
  # The mean distance between points of N(0, I) in the plane is sqrt(pi).
  assert measured['diversity'] == pytest.approx(np.sqrt(np.pi) / 2, rel=0.15)
  keys = jax.random.split(prng.stream(prng.root_key(0), 'watch'))
  start, end = (batches.draw_latents(gan, key, 64) for key in keys)
  start, end = (np.asarray(x, np.float64) for x in (start, end))
  lengths = [np.linalg.norm(x, axis=-1) for x in (start, end)]
  angle = np.arccos((start * end).sum(-1) / np.prod(lengths, axis=0))[:, None]
  moved = np.sin(0.75 * angle) * start + np.sin(0.25 * angle) * end
  steps = np.linalg.norm(moved / np.sin(angle) - start, axis=-1)
  assert measured['latent_response'] == pytest.approx(
    steps.mean() / 2, rel=1e-4
  )


def test_several_seeds_have_a_mean_and_a_lowest_diversity(of_points, state):
  states = jax.tree.map(
    lambda x, y: jnp.stack([x, y]), state, of_constants(state)
  )
  measure = functools.partial(measures.measure, of_points, with_spread(2.0))
  measured = seeds_lib.measure(measure, seeds_lib.root_keys(0, 2), states, 2)
  alone = measures.measure(of_points, with_spread(2.0), prng.root_key(0), state)
  assert measured['diversity_lowest'] == 0
  assert measured['diversity'] == pytest.approx(alone['diversity'] / 2)
  assert measured.keys() == {*alone, *(f'{name}_lowest' for name in alone)}


# Diversities and losses beside the thresholds of the module.
GOOD = judgement._HEALTHY[0] + 0.01
SO_SO = (judgement._HEALTHY[0] + judgement._COLLAPSED) / 2
BAD = judgement._COLLAPSED - 0.01
LATE, FLOOR = judgement._DEADLINES[-1]
NEVER_GOOD = FLOOR - 0.01
MANY = judgement._NUM_REPORTS
WON = judgement._WON / 2
LOST = judgement._LOST / 2
NAN = None  # in metrics.jsonl


def rows_of(*diversities, last_step=None, **others):
  """Rows with these diversities; `others` are values of the last rows."""
  num = len(diversities)
  last_step = last_step or num
  rows = [
    {
      'step': last_step - num + i + 1,
      'd_loss': 1.0,
      'd_accuracy': 0.8,
      'diversity': diversity,
    }
    for i, diversity in enumerate(diversities)
  ]
  for name, values in others.items():
    for row, value in zip(rows[num - len(values) :], values, strict=True):
      row[name] = value
  return rows


@pytest.mark.parametrize(
  ('rows', 'is_healthy'),
  [
    (rows_of(GOOD), True),
    (rows_of(SO_SO), False),
    (rows_of(0.0), False),
    (rows_of(*[0.0] * MANY), False),
    (rows_of(*[NEVER_GOOD] * (MANY - 1), last_step=LATE), False),
    (rows_of(*[NEVER_GOOD] * MANY, last_step=LATE - 1), False),
    (rows_of(*[SO_SO] * MANY, last_step=LATE), False),
    (rows_of(judgement._SCATTERED), False),
    (rows_of(GOOD, SO_SO), False),
    (rows_of(GOOD, BAD), False),
    (rows_of(GOOD, BAD, GOOD), True),
    (rows_of(GOOD, BAD, NAN), False),
    (rows_of(GOOD, NAN, BAD), False),
    (rows_of(GOOD, NAN), False),
    (rows_of(NAN, GOOD), True),
    (rows_of(*[GOOD] * MANY, d_loss=[WON] * (MANY - 1)), True),
    (rows_of(*[GOOD] * MANY, d_loss=[WON] * (MANY - 1) + [1.0]), True),
    (rows_of(*[GOOD] * MANY, d_loss=[NAN] * MANY), True),
    (rows_of(*[GOOD] * MANY, d_accuracy=[LOST] * (MANY - 1)), True),
    (rows_of(*[GOOD] * MANY, d_accuracy=[NAN] * MANY), True),
    (rows_of(*[GOOD] * MANY, d_accuracy=[0.5] + [LOST] * (MANY - 1)), True),
    ([{'step': i} for i in range(1, LATE, 100)], False),
    ([{'step': 1}, {'step': 2, 'diversity': GOOD}], True),
  ],
)
def test_no_warning(rows, is_healthy):
  verdict = judgement.judge(rows, is_classifier=True)
  assert verdict == (None, is_healthy)


@pytest.mark.parametrize(
  ('rows', 'words'),
  [
    (rows_of(*[NEVER_GOOD] * MANY, last_step=LATE), 'mode collapse'),
    (rows_of(GOOD, judgement._SCATTERED + 1), 'the generator has diverged'),
    (rows_of(GOOD, BAD, BAD), f'mode collapse: samples differ {BAD:.2f} times'),
    (rows_of(GOOD, SO_SO, BAD, BAD), 'mode collapse'),
    (rows_of(GOOD, NAN, BAD, BAD), 'mode collapse'),
    (
      rows_of(GOOD, GOOD, GOOD, diversity_lowest=[GOOD, BAD, BAD]),
      f'mode collapse: samples differ {BAD:.2f} times',
    ),
    (rows_of(*[GOOD] * MANY, d_loss=[WON] * MANY), 'is never wrong'),
    (rows_of(*[GOOD] * MANY, d_accuracy=[LOST] * MANY), 'is dead'),
    (rows_of(*[SO_SO] * (MANY + 1), d_accuracy=[0.0] * MANY), 'dead: it rates'),
  ],
)
def test_warnings_name_the_failure(rows, words):
  verdict = judgement.judge(rows, is_classifier=True)
  assert words in verdict.warning
  assert '\n' not in verdict.warning
  assert not verdict.is_healthy


@pytest.mark.parametrize(('num_steps', 'floor'), judgement._DEADLINES)
def test_a_generator_that_never_improves_misses_deadlines(num_steps, floor):
  def verdict(diversity):
    rows = rows_of(*[diversity] * MANY, last_step=num_steps)
    return judgement.judge(rows, is_classifier=True).warning

  assert 'mode collapse' in verdict(floor - 0.001)
  assert verdict(floor + 0.001) is None


def test_a_critic_may_always_be_right():
  rows = rows_of(*[GOOD] * MANY, d_loss=[WON] * MANY)
  assert judgement.judge(rows, is_classifier=False) == (None, True)
  rows = rows_of(*[GOOD] * MANY, d_accuracy=[LOST] * MANY)
  assert 'is dead' in judgement.judge(rows, is_classifier=False).warning


@pytest.mark.parametrize('name', ['d_loss', 'd_accuracy'])
@pytest.mark.parametrize('index', range(MANY))
def test_a_report_that_is_not_finite_prevents_a_verdict(name, index):
  values = [0.0] * MANY
  values[index] = NAN
  rows = rows_of(*[GOOD] * MANY, **{name: values})
  assert judgement.judge(rows, is_classifier=True) == (None, True)
