"""Scores of training and held-out images, and the warning about them."""

from conftest import read_metrics
from conftest import recipe
import jax
import numpy as np
import pytest
from small_gan import create
from small_gan import initial_state

from common_flax import data
from common_flax import prng
from common_flax.data.batches import Labelled
from gan_flax import config as gan_config
from gan_flax import overfitting
from gan_flax.gan import create_gan


def images(low, high, num=32):
  pixels = np.random.default_rng(low).integers(
    low, high, (num, 16, 16, 1), np.uint8
  )
  return Labelled(pixels, np.zeros(num, np.int32))


@pytest.fixture(scope='module')
def scored():
  """Scores of light training images, and of light and dark held-out ones."""
  gan = create()
  state = initial_state(gan)

  def measured(held_out):
    results = overfitting.measure(
      gan, images(128, 256), held_out, prng.root_key(0), state
    )
    return {name: float(value) for name, value in results.items()}

  return gan, state, measured


def test_scores_are_mean_logits_in_train_mode(scored):
  gan, state, measured = scored
  net, held_out = state.discriminator, images(0, 100)
  logits, _ = gan.discriminator.apply(
    {'params': net.params, 'batch_stats': net.batch_stats},
    held_out.examples.astype(np.float32) / 127.5 - 1,
    None,
    train=True,
    mutable=['batch_stats'],
  )
  actual = measured(held_out)['d_held_out_score']
  assert actual == pytest.approx(float(logits.mean()), abs=1e-5)


def test_images_that_score_like_training_images_are_no_overfitting(scored):
  _, _, measured = scored
  result = measured(images(128, 256))
  assert result['d_overfit'] == 0
  assert result['d_train_score'] == result['d_held_out_score']


def rows(*values):
  return [{'step': i, 'd_overfit': value} for i, value in enumerate(values)]


def test_five_high_reports_make_a_warning():
  assert overfitting.judge(rows(0.1, *[0.9] * 4)).warning is None
  assert overfitting.judge(rows(0.9, 0.9, 0.4, 0.9, 0.9)).warning is None
  assert overfitting.judge(rows(*[0.9] * 4, None)).warning is None
  verdict = overfitting.judge(rows(0.1, *[0.9] * 5))
  assert '90%' in verdict.warning
  assert 'augmentation.name=ada' in verdict.warning
  adaptive = overfitting.judge(rows(*[0.9] * 5), is_adaptive=True).warning
  assert 'augmentation.target' in adaptive and 'name=ada' not in adaptive
  # Overfitting makes no checkpoint unfit for `on_collapse`.
  assert verdict.is_healthy


def test_only_runs_of_a_training_split_have_held_out_images():
  dataset = gan_config.default().dataset.copy_and_resolve_references().unlock()
  dataset.image_size = 8
  source = data.load(dataset, 'train')
  assert len(overfitting.held_out_source(dataset, source)) == 297
  dataset.split = 'test'
  assert overfitting.held_out_source(dataset, source) is None
  dataset.split, dataset.name = 'train', 'ring'
  assert overfitting.held_out_source(dataset, source) is None
  dataset.name = 'custom'
  assert overfitting.held_out_source(dataset, source) is None


def test_held_out_images_of_another_shape_are_not_compared(photographs):
  dataset = gan_config.default().dataset.copy_and_resolve_references().unlock()
  dataset.update(name='folder', path=str(photographs), image_size=8)
  source = data.load(dataset, 'train')
  assert overfitting.held_out_source(dataset, source) is None  # five images


def test_a_pack_takes_whole_groups_of_images():
  config = recipe('dcgan.py', 'smoke')
  config.model.packing = 3
  source = data.load(config.dataset, 'train')
  gan = create_gan(config, source.example_shape)
  watch = overfitting.overfit_watch(gan, source, config)
  measured = watch._measure(prng.root_key(0), initial_state(gan))
  assert all(np.isfinite(x) for x in jax.tree.leaves(measured))


def test_a_run_reports_its_overfitting(trained):
  for row in read_metrics(trained):
    assert 0 <= row['d_overfit'] <= 1
    assert np.isfinite(row['d_train_score'] + row['d_held_out_score'])
