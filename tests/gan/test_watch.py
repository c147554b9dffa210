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
from gan_flax import watch
from gan_flax.gan import create_gan
from gan_flax.state import init_state


def expected_distance(x):
  """Mean distance over all pairs, by its definition, in float64."""
  x = np.asarray(x, np.float64).reshape(len(x), -1)
  distances = np.linalg.norm(x[:, None] - x[None], axis=-1)
  return distances[~np.eye(len(x), dtype=bool)].mean()


@pytest.mark.parametrize('offset', [0.0, 1000.0])
def test_mean_distance_is_over_all_pairs(offset):
  random = np.random.default_rng(0)
  x = np.float32(random.normal(offset, 1.0, (40, 3, 5)))
  distance = watch.mean_distance(jnp.asarray(x))
  assert distance == pytest.approx(expected_distance(x), rel=1e-5)


def test_equal_examples_have_no_distance():
  x = np.random.default_rng(0).normal(10.0, 1.0, (1, 20))
  x = jnp.asarray(np.repeat(x, 30, axis=0), jnp.float32)
  assert watch.mean_distance(x) < 1e-4


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


def test_the_spread_of_images_is_in_the_units_of_samples():
  images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), np.uint8)
  spread = watch.spread(create(), images)
  assert spread == pytest.approx(expected_distance(images) / 127.5, rel=1e-5)


def test_the_spread_of_points_is_in_their_own_units(of_points, points):
  spread = watch.spread(of_points, points)
  assert spread == pytest.approx(expected_distance(points), rel=1e-5)


def test_equal_examples_have_a_positive_spread():
  gan = create()
  spread = watch.spread(gan, np.full((5, 16, 16, 1), 200, np.uint8))
  assert 0 < spread < 1e-3


@pytest.fixture(scope='module')
def state(of_points):
  return jax.jit(lambda: init_state(of_points, prng.root_key(0)))()


def of_constants(state):
  """A state whose generator maps every latent to the same point."""
  params = dict(state.generator.params)
  params['point'] = jax.tree.map(jnp.zeros_like, params['point'])
  return state.replace(generator=state.generator.replace(params=params))


def test_a_constant_generator_has_no_diversity(of_points, state):
  root = prng.root_key(0)
  constant = watch.measure(of_points, 2.0, root, of_constants(state))
  assert constant == {'diversity': 0.0, 'latent_response': 0.0}
  usual = watch.measure(of_points, 2.0, root, state)
  assert min(usual.values()) > 1e-3


def test_the_measure_always_uses_the_same_latents(of_points, state):
  root = prng.root_key(0)
  first = watch.measure(of_points, 2.0, root, state)
  later = state.replace(step=state.step + 7, attempt=state.attempt + 1)
  assert watch.measure(of_points, 2.0, root, later) == first
  assert watch.measure(of_points, 4.0, root, state)['diversity'] == (
    pytest.approx(first['diversity'] / 2)
  )
  assert watch.measure(of_points, 2.0, prng.root_key(1), state) != first


def drawing(draw):
  """A GAN whose generator is the function `draw` of its latents, [N, 2]."""

  def apply(unused_variables, latents, unused_labels, **unused_options):
    return draw(latents), {}

  generator = types.SimpleNamespace(apply=apply)
  generator.clone = lambda *, axis_name: generator
  return types.SimpleNamespace(
    generator=generator,
    latent_size=2,
    latent_distribution='normal',
    is_conditional=False,
    dtype=jnp.float32,
  )


def test_real_examples_have_diversity_one(of_points, points, state):
  gan = drawing(lambda latents: jnp.asarray(points[: len(latents)]))
  spread = watch.spread(of_points, points)
  measured = watch.measure.__wrapped__(gan, spread, prng.root_key(0), state)
  assert measured['diversity'] == pytest.approx(1.0, abs=0.15)
  assert measured['latent_response'] == 0


def test_latent_response_is_that_to_a_quarter_of_the_way(state):
  gan = drawing(lambda latents: latents)
  measured = watch.measure.__wrapped__(gan, 2.0, prng.root_key(0), state)
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
  measure = functools.partial(watch.measure, of_points, 2.0)
  measured = seeds_lib.measure(measure, seeds_lib.root_keys(0, 2), states, 2)
  alone = watch.measure(of_points, 2.0, prng.root_key(0), state)
  assert measured['diversity_lowest'] == 0
  assert measured['diversity'] == pytest.approx(alone['diversity'] / 2)
  assert measured.keys() == {*alone, *(f'{name}_lowest' for name in alone)}


# Diversities and losses beside the thresholds of the module.
GOOD = watch._HEALTHY[0] + 0.01
SO_SO = (watch._HEALTHY[0] + watch._COLLAPSED) / 2
BAD = watch._COLLAPSED - 0.01
LATE, FLOOR = watch._DEADLINES[-1]
NEVER_GOOD = FLOOR - 0.01
MANY = watch._NUM_REPORTS
WON = watch._WON / 2
LOST = watch._LOST / 2
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
    (rows_of(watch._SCATTERED), False),
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
  verdict = watch.judge(rows, is_classifier=True)
  assert verdict == (None, is_healthy)


@pytest.mark.parametrize(
  ('rows', 'words'),
  [
    (rows_of(*[NEVER_GOOD] * MANY, last_step=LATE), 'mode collapse'),
    (rows_of(GOOD, watch._SCATTERED + 1), 'the generator has diverged'),
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
  verdict = watch.judge(rows, is_classifier=True)
  assert words in verdict.warning
  assert '\n' not in verdict.warning
  assert not verdict.is_healthy


@pytest.mark.parametrize(('num_steps', 'floor'), watch._DEADLINES)
def test_a_generator_that_never_improves_misses_deadlines(num_steps, floor):
  def verdict(diversity):
    rows = rows_of(*[diversity] * MANY, last_step=num_steps)
    return watch.judge(rows, is_classifier=True).warning

  assert 'mode collapse' in verdict(floor - 0.001)
  assert verdict(floor + 0.001) is None


def test_a_critic_may_always_be_right():
  rows = rows_of(*[GOOD] * MANY, d_loss=[WON] * MANY)
  assert watch.judge(rows, is_classifier=False) == (None, True)
  rows = rows_of(*[GOOD] * MANY, d_accuracy=[LOST] * MANY)
  assert 'is dead' in watch.judge(rows, is_classifier=False).warning


@pytest.mark.parametrize('name', ['d_loss', 'd_accuracy'])
@pytest.mark.parametrize('index', range(MANY))
def test_a_report_that_is_not_finite_prevents_a_verdict(name, index):
  values = [0.0] * MANY
  values[index] = NAN
  rows = rows_of(*[GOOD] * MANY, **{name: values})
  assert watch.judge(rows, is_classifier=True) == (None, True)
