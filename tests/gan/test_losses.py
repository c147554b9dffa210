"""Losses against NumPy and the book's notebook, also at extreme logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from gan_flax import losses

EXTREMES = np.array([-1e4, -100.0, -1.0, 0.0, 1.0, 100.0, 1e4])


@pytest.fixture
def toy_logits():
  """Real and fake logits of UDL's notebook 15.1, and their losses."""
  real = np.random.RandomState(0).normal(size=10) + 7.5
  fake = np.random.RandomState(1).normal(size=10) + 3.0

  def discriminator(x):  # parameters φ = (-2, 1)
    return -2 + x

  return discriminator(real), discriminator(fake)


def test_losses_match_the_books_notebook(toy_logits):
  real, fake = toy_logits
  with jax.enable_x64(True):
    d_loss = jnp.sum(losses.discriminator_loss(real, fake))
    # The notebook maximises this loss; we minimise its negative.
    g_loss = -jnp.sum(losses.minimax_generator_loss(fake))
  assert d_loss == pytest.approx(13.814757170851447, rel=1e-14)
  assert g_loss == pytest.approx(13.78437035945412, rel=1e-14)


def test_losses_are_those_of_probabilities():
  real, fake = np.random.default_rng(0).normal(0, 3, (2, 50))
  p_real, p_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
  with jax.enable_x64(True):
    np.testing.assert_allclose(
      losses.discriminator_loss(real, fake),
      -np.log(p_real) - np.log(1 - p_fake),
      rtol=1e-12,
    )
    np.testing.assert_allclose(
      losses.minimax_generator_loss(fake), np.log(1 - p_fake), rtol=1e-12
    )
    np.testing.assert_allclose(
      losses.non_saturating_generator_loss(fake), -np.log(p_fake), rtol=1e-12
    )


@pytest.mark.parametrize(
  ('dtype', 'tolerance'), [(jnp.float32, 1e-5), (jnp.bfloat16, 1e-2)]
)
@pytest.mark.parametrize(
  ('loss', 'value', 'gradient'),
  [
    (
      functools.partial(losses.binary_cross_entropy, is_real=True),
      lambda x: np.logaddexp(0, -x),
      lambda x: -expit(-x),
    ),
    (
      functools.partial(losses.binary_cross_entropy, is_real=False),
      lambda x: np.logaddexp(0, x),
      expit,
    ),
    (
      losses.minimax_generator_loss,
      lambda x: -np.logaddexp(0, x),
      lambda x: -expit(x),
    ),
    (
      losses.non_saturating_generator_loss,
      lambda x: np.logaddexp(0, -x),
      lambda x: -expit(-x),
    ),
  ],
)
def test_losses_and_gradients_are_right_at_extreme_logits(
  loss, value, gradient, dtype, tolerance
):
  def total(logits):
    return jnp.sum(loss(logits).astype(jnp.float32))

  logits = jnp.asarray(EXTREMES, dtype)
  close = dict(rtol=tolerance, atol=1e-30)
  np.testing.assert_allclose(
    loss(logits).astype(np.float32), value(EXTREMES), **close
  )
  np.testing.assert_allclose(
    jax.grad(total)(logits).astype(np.float32), gradient(EXTREMES), **close
  )


def test_losses_are_those_of_scores():
  real, fake = np.random.default_rng(1).normal(0, 2, (2, 50))
  expected = {
    'least_squares': ((real - 1) ** 2 / 2 + fake**2 / 2, (fake - 1) ** 2 / 2),
    'hinge': (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake), -fake),
    'wasserstein': (fake - real, -fake),
    'relativistic': (
      np.log(1 + np.exp(fake - real)),
      np.log(1 + np.exp(real - fake)),
    ),
  }
  of_probabilities = {'minimax', 'non_saturating'}
  assert expected.keys() == losses.LOSSES.keys() - of_probabilities
  with jax.enable_x64(True):
    for name, (d_loss, g_loss) in expected.items():
      loss = losses.LOSSES[name]
      np.testing.assert_allclose(
        loss.discriminator(real, fake), d_loss, rtol=1e-12
      )
      np.testing.assert_allclose(loss.generator(real, fake), g_loss, rtol=1e-12)
      assert not loss.is_classifier


@pytest.mark.parametrize('name', losses.LOSSES)
def test_players_pull_in_opposite_directions(name):
  """The discriminator pushes scores apart; the generator reduces the gap."""
  loss = losses.LOSSES[name]
  real, fake = jnp.array(0.3), jnp.array(0.2)
  to_real, to_fake = jax.grad(loss.discriminator, argnums=(0, 1))(real, fake)
  assert to_real < 0 < to_fake
  assert jax.grad(loss.generator, argnums=1)(real, fake) < 0


@pytest.mark.parametrize('name', losses.LOSSES)
def test_only_a_relativistic_generator_uses_real_examples(name):
  slope = jax.grad(losses.LOSSES[name].generator)(jnp.array(0.3), 0.1)
  assert bool(slope) == (name == 'relativistic')


def test_hinge_ignores_examples_beyond_the_margin():
  slopes = jax.grad(losses.hinge_discriminator_loss, argnums=(0, 1))(1.5, -1.5)
  assert slopes == (0, 0)


def test_saturating_loss_vanishes_where_the_other_is_steepest():
  confident = jnp.array(-20.0)  # certainly fake
  assert abs(jax.grad(losses.minimax_generator_loss)(confident)) < 1e-8
  assert jax.grad(losses.non_saturating_generator_loss)(confident) == -1


def test_an_undecided_discriminator_loses_two_log_two():
  zeros = jnp.zeros(3)
  np.testing.assert_allclose(
    losses.discriminator_loss(zeros, zeros), 2 * np.log(2), rtol=1e-6
  )
