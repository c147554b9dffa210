"""Pictures of the GAN of three parameters (UDL figures 15.1 and 15.2)."""

import jax
import jax.numpy as jnp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from common_flax.figures import COLOURS
from common_flax.figures import create_figure
from common_flax.figures import finish
from common_flax.figures import GREY
from common_flax.figures import INK
from common_flax.figures import with_true_minus
from gan_flax import toy
from gan_flax.toy import Pace
from gan_flax.toy import Players

_REAL, _FAKE = COLOURS[0], COLOURS[1]
_NUM_EXAMPLES = 10
_REAL_MEAN = 7.5  # the notebook's
_START = (3.0, (-2.0, 1.0))  # θ; φ0, φ1
_NUM_ROUNDS = 5
_NUM_LONG_ROUNDS = 60
# The notebook's steps are too long for examples near the real ones.
_LONG_PACE = Pace(1000, 0.003)
_RANGE = (0.0, 11.0)


def _data(key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Real examples and latents, [N] each."""
  real_key, latent_key = jax.random.split(key)
  real = _REAL_MEAN + jax.random.normal(real_key, (_NUM_EXAMPLES,))
  return real, jax.random.normal(latent_key, (_NUM_EXAMPLES,))


def _start() -> Players:
  return Players(*map(jnp.asarray, _START))


def _at(players: Players, turn: int) -> Players:
  return jax.tree.map(lambda x: x[turn], players)


def _draw_examples(panel: Axes, x: np.ndarray, colour: str, label: str) -> None:
  panel.vlines(x, 0, 0.33, color=colour, linewidth=2, label=label)


def _draw_game(
  panel: Axes, players: Players, real: jax.Array, z: jax.Array
) -> None:
  """Both kinds of example under the discriminator's curve."""
  x = np.linspace(*_RANGE, 400)
  _draw_examples(panel, real, _REAL, 'real')
  _draw_examples(
    panel, np.asarray(toy.generate(players.theta, z)), _FAKE, 'generated'
  )
  probability = jax.nn.sigmoid(toy.logits(players.phi, x))
  panel.plot(x, probability, color=GREY, linewidth=2, label='Pr(real)')
  panel.set_xlim(_RANGE)
  panel.set_ylim(0, 1.02)


def mechanism_figure(key: jax.Array) -> Figure:
  """Turn by turn: the generator is led towards the data (figure 15.1)."""
  real, z = _data(key)
  turns = toy.play(_start(), real, z, _NUM_ROUNDS)
  titles = {0: 'Before the game'}
  for number in (1, 2, 5):
    titles[2 * number - 1] = f'Round {number}: the discriminator learns'
    titles[2 * number] = f'Round {number}: the generator moves'
  del titles[2]
  figure = create_figure(11, 5.5)
  panels = figure.subplots(2, 3, sharey=True).ravel()
  for panel, (turn, title) in zip(panels, titles.items(), strict=True):
    players = _at(turns, turn)
    _draw_game(panel, players, real, z)
    theta = with_true_minus(f'{float(players.theta):.2f}')
    finish(panel, f'{title}\nθ = {theta}', 'x')
  panels[0].legend(loc=(0.62, 0.45), frameon=False, fontsize=9)
  return figure


def losses_figure(key: jax.Array) -> Figure:
  """What goes in, what is said of it, what it costs (figure 15.2)."""
  real, z = _data(key)
  players = _at(toy.play(_start(), real, z, 1), 1)
  fake = toy.generate(players.theta, z)
  figure = create_figure(11, 3.6)
  mapping, opinions, costs = figure.subplots(1, 3)
  for latent, sample in zip(np.asarray(z), np.asarray(fake), strict=True):
    mapping.annotate(
      '',
      (sample, 0.08),
      (latent, 0.92),
      arrowprops={'arrowstyle': '->', 'color': _FAKE, 'linewidth': 1.4},
    )
  mapping.plot(z, np.ones_like(z), 'o', color=INK, label='latents z')
  mapping.plot(fake, 0 * fake, 'o', color=_FAKE, label='generated z + θ')
  mapping.plot(real, 0 * real, 'o', color=_REAL, label='real x')
  mapping.set_ylim(-0.15, 1.5)
  mapping.set_yticks([])
  mapping.legend(loc='upper right', frameon=False, fontsize=9)
  finish(mapping, 'The generator maps latents to samples', 'z, x')
  _draw_game(opinions, players, real, z)
  for x, colour in ((real, _REAL), (fake, _FAKE)):
    probability = jax.nn.sigmoid(toy.logits(players.phi, x))
    opinions.plot(x, probability, 'o', color=colour)
  finish(opinions, 'The discriminator gives probabilities', 'x', 'Pr(real)')
  logits = np.linspace(-5, 5, 200)
  costs.plot(logits, np.logaddexp(0, -logits), color=_REAL, label='of real x')
  costs.plot(logits, np.logaddexp(0, logits), color=_FAKE, label='of generated')
  for x, sign, colour in ((real, -1, _REAL), (fake, 1, _FAKE)):
    here = np.asarray(toy.logits(players.phi, x))
    costs.plot(here, np.logaddexp(0, sign * here), 'o', color=colour)
  costs.set_xlim(-5, 5)
  costs.set_ylim(-0.1, 5)
  costs.legend(loc='upper center', frameon=False, fontsize=9)
  finish(costs, 'What that costs the discriminator', 'logit', 'nats')
  return figure


def training_figure(key: jax.Array) -> Figure:
  """Many rounds: beyond the data, back, and to rest where nobody can tell."""
  real, z = _data(key)
  turns = toy.play(_start(), real, z, _NUM_LONG_ROUNDS, d_pace=_LONG_PACE)
  rounds = np.arange(2 * _NUM_LONG_ROUNDS + 1) / 2
  d_loss = jax.vmap(
    lambda players: toy.total_discriminator_loss(
      players.phi, players.theta, real, z
    )
  )(turns)
  figure = create_figure(11, 3.2)
  thetas, slopes, losses = figure.subplots(1, 3)
  goal = float(real.mean() - z.mean())
  thetas.axhline(
    goal, color=_REAL, linestyle=':', label='where the means agree'
  )
  thetas.plot(rounds, turns.theta, color=_FAKE)
  thetas.legend(loc='lower right', frameon=False, fontsize=9)
  finish(thetas, 'The generator', 'round', 'θ')
  slopes.plot(rounds, turns.phi[:, 1], color=INK)
  finish(slopes, 'The discriminator', 'round', 'slope φ1')
  undecided = 2 * _NUM_EXAMPLES * np.log(2)
  losses.axhline(undecided, color=GREY, linestyle=':', label='it cannot tell')
  losses.plot(rounds, d_loss, color=INK)
  losses.legend(loc='lower right', frameon=False, fontsize=9)
  finish(losses, "The discriminator's loss", 'round', 'nats')
  return figure
