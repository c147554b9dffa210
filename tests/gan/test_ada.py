"""Adaptive augmentation against NumPy, and its probability in training."""

import dataclasses

from conftest import assert_same_end
from conftest import final_state
from conftest import recipe
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_gan import batches_for
from small_gan import create
from small_gan import initial_state

from common_flax import prng
from common_flax.distributed.sharding import BatchAxis
from common_flax.errors import UserError
from gan_flax import config as gan_config
from gan_flax import steps
from gan_flax.augmentation import AdaptiveAugmentation
from gan_flax.augmentation import color
from gan_flax.augmentation import geometry
from gan_flax.augmentation import GROUPS
from gan_flax.train import train

KEY = jax.random.key(5)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 3))
IMAGES = IMAGES.astype(np.float32)


def distorted(images, p, groups=GROUPS):
  augment = AdaptiveAugmentation(groups, 0.6, 1000, 0.0)
  adaptation = augment.init().replace(p=jnp.float32(p))
  return np.asarray(jax.jit(augment)(KEY, jnp.asarray(images), adaptation))


def resampled(images, matrix):
  maps = jnp.broadcast_to(matrix, (len(images), 3, 3))
  return np.asarray(geometry.resample(jnp.asarray(images), maps))


def numbers(*values):
  return [jnp.array([value], jnp.float32) for value in values]


@pytest.mark.parametrize('channels', [1, 3])
def test_images_keep_their_bits_at_probability_0(channels):
  images = IMAGES[..., :channels]
  np.testing.assert_array_equal(distorted(images, 0.0), images)


@pytest.mark.parametrize('group', GROUPS)
def test_every_group_distorts_at_probability_1(group):
  assert (distorted(IMAGES, 1.0, (group,)) != IMAGES).any(axis=(1, 2, 3)).any()


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_quarter_turns_are_those_of_numpy(turns):
  cosine, sine = ((0, 1), (-1, 0), (0, -1))[turns - 1]
  actual = resampled(IMAGES, geometry.rotation(*numbers(cosine, sine)))
  expected = np.rot90(IMAGES, turns, axes=(1, 2))
  np.testing.assert_array_equal(actual, expected)


def test_whole_shifts_show_reflections_beyond_the_edge():
  actual = resampled(IMAGES, geometry.translation(*numbers(3, -2)))
  padded = np.pad(IMAGES, ((0, 0), (0, 2), (3, 0), (0, 0)), 'reflect')
  np.testing.assert_array_equal(actual, padded[:, 2:, :8])


def test_mirroring_reverses_columns():
  actual = resampled(IMAGES, geometry.scaling(*numbers(-1, 1)))
  np.testing.assert_array_equal(actual, IMAGES[:, :, ::-1])


def test_composed_maps_move_the_values_of_a_plane():
  """Bilinear interpolation of a plane is exact, except beyond the edges."""
  size, angle = 33, 0.7
  place = np.arange(size, dtype=np.float32) - size // 2
  y, x = np.meshgrid(place, place, indexing='ij')
  image = (0.02 * x - 0.03 * y)[None, :, :, None]
  maps = geometry.compose(
    geometry.scaling(*numbers(1.25, 0.8)),
    geometry.rotation(*numbers(np.cos(angle), np.sin(angle))),
    geometry.translation(*numbers(1.5, -2.25)),
  )
  u, v = x - 1.5, y + 2.25
  u, v = (
    np.cos(angle) * u - np.sin(angle) * v,
    np.sin(angle) * u + np.cos(angle) * v,
  )
  u, v = u / 1.25, v / 0.8
  is_inside = np.maximum(np.abs(u), np.abs(v)) <= size // 2
  assert is_inside.mean() > 0.5
  actual = resampled(image, maps)[0, :, :, 0]
  expected = 0.02 * u - 0.03 * v
  np.testing.assert_allclose(actual[is_inside], expected[is_inside], atol=1e-5)


def recolored(matrix, images=IMAGES):
  maps = jnp.broadcast_to(matrix, (len(images), *matrix.shape[1:]))
  return np.asarray(color.recolor(jnp.asarray(images), maps))


def test_colour_maps_in_closed_form():
  (number,) = numbers(0.25)
  grey = IMAGES.mean(axis=3, keepdims=True)
  for actual, expected in (
    (color.brightness(number, 3), IMAGES + 0.25),
    (color.contrast(number, 3), IMAGES * 0.25),
    (color.saturation(number, 3), grey + 0.25 * (IMAGES - grey)),
    (color.luma_flip(number * 4, 3), IMAGES - 2 * grey),
    # A third of a turn takes red to green, green to blue and blue to red.
    (color.hue(jnp.array([2 * np.pi / 3])), np.roll(IMAGES, 1, axis=3)),
  ):
    np.testing.assert_allclose(recolored(actual), expected, atol=1e-6)


def test_a_flipped_grey_image_is_its_negative():
  images = IMAGES[..., :1]
  flipped = recolored(color.luma_flip(jnp.ones(1), 1), images)
  np.testing.assert_array_equal(flipped, -images)


@pytest.mark.parametrize(
  ('group', 'num_distortions'),
  # Noise is one distortion. A shift is a turn, too; four distortions move
  # pixels, the two rotations counting as one.
  [('noise', 1), ('geometry', 4)],
)
def test_images_stay_undistorted_as_often_as_the_probability_says(
  group, num_distortions
):
  images = np.broadcast_to(IMAGES[:1, :4, :4, :1], (4000, 4, 4, 1))
  same = (distorted(images, 0.3, (group,)) == images).all(axis=(1, 2, 3))
  assert same.mean() == pytest.approx(0.7**num_distortions, abs=0.03)


@pytest.mark.parametrize('p', [0.5, 0.8])
def test_distortions_do_not_hide_how_frequent_orientations_are(p):
  """The share of an image's 8 orientations can be told from distorted images.

  Seen through distortions, shares q become T q. T is invertible for p < 1, so
  only the true shares look like the real images do.
  """
  image = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
  orientations = [
    np.rot90(flipped, turns, axes=(1, 2))
    for flipped in (image, image[:, :, ::-1])
    for turns in range(4)
  ]
  num = 5000
  seen = distorted(np.repeat(image, num, axis=0), p, ('blit',))
  shares = [(seen == each).all(axis=(1, 2, 3)).mean() for each in orientations]
  assert sum(shares) == 1
  turned = np.full(4, p / 4) + np.eye(4)[0] * (1 - p)
  expected = np.concatenate([(1 - p / 2) * turned, p / 2 * turned])
  np.testing.assert_allclose(shares, expected, atol=0.03)
  turn_map = (1 - p) * np.eye(4) + p / 4
  flip_map = (1 - p) * np.eye(2) + p / 2
  smallest = np.linalg.svd(np.kron(flip_map, turn_map), compute_uv=False)[-1]
  assert smallest == pytest.approx((1 - p) ** 2)


def test_gradients_are_those_of_an_affine_map():
  """All distortions are affine in the image: a difference is the slope."""
  augment = AdaptiveAugmentation(GROUPS, 0.6, 1000, 0.0)
  with jax.enable_x64(True):
    adaptation = augment.init().replace(p=jnp.float32(0.8))
    images = jnp.asarray(IMAGES, jnp.float64)
    direction = images[::-1]

    @jax.jit
    def distort(x):
      return augment(KEY, x, adaptation)

    _, slope = jax.jvp(distort, (images,), (direction,))
    change = distort(images + direction) - distort(images)
    pulled = jax.grad(lambda x: (distort(x) * direction).sum())(images)
    np.testing.assert_allclose(slope, change, atol=1e-9)
    # The transposed map, along the same direction.
    np.testing.assert_allclose(
      (pulled * direction).sum(), (slope * direction).sum(), rtol=1e-9
    )


def test_the_probability_follows_the_sign_every_fourth_update():
  augment = AdaptiveAugmentation(GROUPS, 0.6, 1000, 0.0)
  adaptation = augment.init()
  history = []
  for sign in [1.0] * 8 + [0.5] * 12 + [1.0] * 24:
    adaptation = augment.adapt(adaptation, jnp.float32(sign), 50)
    history.append(float(adaptation.p))
  rising, falling, again = history[:8], history[8:20], history[20:]
  # Four updates of 50 images are a fifth of the speed's 1,000.
  np.testing.assert_allclose(rising, [0] * 3 + [0.2] * 4 + [0.4], atol=1e-6)
  np.testing.assert_allclose(falling[3::4], [0.2, 0, 0], atol=1e-6)
  np.testing.assert_allclose(again[3::4][-2:], [1, 1], atol=1e-6)


def test_devices_distort_their_shares_as_one_would_the_whole():
  images = jnp.asarray(IMAGES)
  shares = images.reshape(2, 3, 8, 8, 3)
  whole = AdaptiveAugmentation(GROUPS, 0.6, 1000, 0.0)
  split = dataclasses.replace(whole, axis=BatchAxis('data'))
  adaptation = whole.init().replace(p=jnp.float32(0.8))
  distort = jax.vmap(lambda x: split(KEY, x, adaptation), axis_name='data')
  actual = jax.jit(distort)(shares)
  expected = jax.jit(whole)(KEY, images, adaptation)
  np.testing.assert_allclose(
    actual.reshape(images.shape), expected, rtol=0, atol=1e-5
  )
  total = jax.vmap(lambda x: x[0] * 0 + split.axis.total(3), axis_name='data')
  np.testing.assert_array_equal(total(jnp.zeros((2, 3))), [6, 6])


def test_each_seed_has_its_own_probability():
  augment = AdaptiveAugmentation(GROUPS, 0.6, 1000, 0.0)
  adaptation = jax.vmap(lambda p: augment.init().replace(p=p))(
    jnp.array([0.0, 1.0])
  )
  images = jnp.asarray(IMAGES)
  distort = jax.vmap(lambda each: augment(KEY, images, each))
  seen = jax.jit(distort)(adaptation)
  np.testing.assert_array_equal(seen[0], images)
  assert (seen[1] != images).any(axis=(1, 2, 3)).all()


ADA = {
  'augmentation.name': 'ada',
  'augmentation.groups': GROUPS,
  'augmentation.speed_images': 16 * 4 * 4,
}


@pytest.mark.parametrize('target', [-0.99, 0.99])
def test_train_steps_raise_or_lower_the_probability(target):
  gan = create(
    **ADA,
    **{
      'augmentation.target': target,
      'discriminator_steps': 2,
      'model.discriminator_norm': 'none',
      'penalty.r1': 1.0,
      'compute_dtype': 'bfloat16',
    },
  )
  state = initial_state(gan)
  half = state.augmentation.replace(p=jnp.float32(0.5))
  state = state.replace(augmentation=half)
  step = jax.jit(lambda *args: steps.train_step(gan, *args))
  for batch in batches_for(gan, 2):
    state, metrics = step(state, batch, prng.root_key(0))
  assert float(state.augmentation.p) == (0.75 if target < 0 else 0.25)
  assert float(metrics['augmentation_p']) == 0.5  # of the last update
  assert -1 <= float(metrics['real_sign']) <= 1
  assert all(np.isfinite(x).all() for x in jax.tree.leaves((state, metrics)))


def test_states_without_ada_have_no_probability():
  assert initial_state(create()).augmentation is None
  leaves = len(jax.tree.leaves(initial_state(create())))
  assert len(jax.tree.leaves(initial_state(create(**ADA)))) == leaves + 3


@pytest.mark.slow  # three runs of images
def test_a_resumed_run_keeps_its_probability(tmp_path):
  """One update after a change of p, which a reset would forget."""
  config = recipe('small.py', 'smoke')
  config.augmentation.target = -0.99
  config.augmentation.speed_images = 16 * 4 * 10
  for player in (config.generator, config.discriminator):
    player.schedule = 'constant'  # free of `num_steps`, so that it may grow
  config.num_steps = 10
  config.log_every_steps = config.sample_every_steps = 5
  config.checkpoint_every_steps = 5
  assert train(config, tmp_path / 'whole') is None
  config.num_steps = 5
  assert train(config, tmp_path / 'parts') is None
  half = final_state(tmp_path / 'parts').augmentation
  assert float(half.p) == pytest.approx(0.1)
  assert int(half.num_updates) == 1
  config.num_steps = 10
  assert train(config, tmp_path / 'parts') is None
  assert float(final_state(tmp_path / 'parts').augmentation.p) > 0.1
  assert_same_end(tmp_path / 'parts', tmp_path / 'whole')


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'name': 'adaptive'}, ['augmentation.name', 'diffaugment']),
    ({'name': 'ada', 'target': 1.0}, ['augmentation.target', 'between']),
    ({'name': 'ada', 'speed_images': 0}, ['speed_images', 'at least 1']),
    ({'name': 'ada', 'groups': ()}, ['augmentation.groups', 'blit']),
    ({'name': 'ada', 'groups': ('hue',)}, ['augmentation.groups', 'blit']),
    ({'name': 'ada', 'groups': ('blit',) * 2}, ['augmentation.groups', 'once']),
  ],
)
def test_settings_without_a_meaning_are_refused(changes, words):
  config = gan_config.default().unlock()
  config.augmentation.update(changes)
  with pytest.raises(UserError) as caught:
    gan_config.check(config)
  for word in words:
    assert word in str(caught.value)


@pytest.mark.parametrize('loss', ['relativistic', 'wasserstein'])
def test_ada_needs_a_loss_with_a_boundary(loss):
  config = gan_config.default().unlock()
  config.augmentation.name = 'ada'
  config.loss.name = loss
  config.model.spectral_norm = True
  with pytest.raises(UserError, match=r'augmentation\.name.*no meaning'):
    gan_config.check(config)
