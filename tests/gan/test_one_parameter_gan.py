"""The GAN with a one-parameter generator: NumPy and UDL's notebook 15.1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from gan_flax import one_parameter_game as game
from gan_flax import one_parameter_gan

START = game.Players(jnp.float32(3.0), jnp.array([-2.0, 1.0]))


def data():
  """Returns the notebook's examples and latents."""
  real = np.random.RandomState(0).standard_normal(10) + 7.5
  return real, np.random.RandomState(1).standard_normal(10)


def test_losses_match_the_notebook():
  real, z = data()
  with jax.enable_x64(True):
    phi = jnp.array([-2.0, 1.0], jnp.float64)
    d_loss = game.total_discriminator_loss(phi, 3.0, real, z)
    g_loss = game.total_generator_loss(3.0, phi, z)
  assert d_loss == pytest.approx(13.814757170851447, rel=1e-12)
  # The book maximises its generator loss, so the sign is flipped here.
  assert g_loss == pytest.approx(-13.78437035945412, rel=1e-12)


def test_one_round_matches_numpy():
  real, z = data()
  theta, phi0, phi1 = 3.0, -2.0, 1.0
  for _ in range(300):
    fake = z + theta
    wrong = expit(phi0 + phi1 * real) - 1
    fooled = expit(phi0 + phi1 * fake)
    phi0, phi1 = (
      phi0 - 0.01 * (wrong.sum() + fooled.sum()),
      phi1 - 0.01 * ((wrong * real).sum() + (fooled * fake).sum()),
    )
  for _ in range(3):
    theta += 0.02 * (expit(phi0 + phi1 * (z + theta)) * phi1).sum()
  turns = game.play(START, real, z, 1)
  np.testing.assert_array_equal(turns.theta[:2], 3.0)
  np.testing.assert_allclose(turns.theta[2], theta, rtol=1e-4)
  np.testing.assert_array_equal(turns.phi[0], [-2, 1])
  for turn in (1, 2):
    np.testing.assert_allclose(turns.phi[turn], [phi0, phi1], rtol=1e-3)


def test_the_game_ends_at_an_undecided_discriminator():
  real, z = data()
  turns = game.play(START, real, z, 100, d_pace=game.Pace(1000, 0.003))
  assert turns.theta.shape == (201,)
  last = jax.tree.map(lambda x: x[-1], turns)
  assert last.theta == pytest.approx(real.mean() - z.mean(), abs=0.05)
  assert last.phi[1] == pytest.approx(0, abs=0.05)
  loss = game.total_discriminator_loss(last.phi, last.theta, real, z)
  assert loss == pytest.approx(20 * np.log(2), rel=1e-3)


def test_every_picture_is_drawn(tmp_path, capsys):
  folder = tmp_path / 'pictures'
  assert one_parameter_gan.main(['', f'--output={folder}']) == 0
  paths = [folder / name for name in one_parameter_gan.FIGURES]
  assert capsys.readouterr().out.split() == [str(path) for path in paths]
  assert all(path.stat().st_size > 20_000 for path in paths)
  assert one_parameter_gan.main(['']) == 2
  assert '--output: missing' in capsys.readouterr().err
