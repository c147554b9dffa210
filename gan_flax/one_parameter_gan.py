"""Draws a GAN whose generator has one parameter (UDL 15.1).

  python -m gan_flax.one_parameter_gan --output=FOLDER [--seed=0]

Writes three PNGs to the folder and prints their paths: the game turn by turn,
the terms of the losses, and the parameters over many rounds (Understanding Deep
Learning, UDL, figures 15.1 and 15.2).
"""

from collections.abc import Sequence
import sys

import jax
import jax.numpy as jnp
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from common_flax.cli import draw_command
from common_flax.cli.plotting import COLOURS
from common_flax.cli.plotting import create_figure
from common_flax.cli.plotting import finish
from common_flax.cli.plotting import GREY
from common_flax.cli.plotting import INK
from common_flax.cli.plotting import with_true_minus
from gan_flax import one_parameter_game as game
from gan_flax.one_parameter_game import Pace
from gan_flax.one_parameter_game import Players

_REAL, _FAKE = COLOURS[0], COLOURS[1]
_NUM_EXAMPLES = 10
_REAL_MEAN = 7.5  # as in UDL's notebook 15.1
_START = (3.0, (-2.0, 1.0))  # θ; φ0, φ1
_NUM_ROUNDS = 5
_NUM_LONG_ROUNDS = 60
# The notebook's discriminator steps are too long once samples reach the data.
_LONG_PACE = Pace(1000, 0.003)
_RANGE = (0.0, 11.0)


def _data(key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Draws real examples [N] and latents [N]."""
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
  """Draws real and generated examples and the discriminator's curve."""
  x = np.linspace(*_RANGE, 400)
  _draw_examples(panel, real, _REAL, 'real')
  _draw_examples(
    panel, np.asarray(game.generate(players.theta, z)), _FAKE, 'generated'
  )
  probability = jax.nn.sigmoid(game.logits(players.phi, x))
  panel.plot(x, probability, color=GREY, linewidth=2, label='Pr(real)')
  panel.set_xlim(_RANGE)
  panel.set_ylim(0, 1.02)


def mechanism_figure(key: jax.Array) -> Figure:
  """Shows the game turn by turn (UDL figure 15.1)."""
  real, z = _data(key)
  turns = game.play(_start(), real, z, _NUM_ROUNDS)
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


def _draw_mapping(
  panel: Axes, real: jax.Array, z: jax.Array, fake: jax.Array
) -> None:
  """Draws an arrow from each latent to its sample, beside the real examples."""
  for latent, sample in zip(np.asarray(z), np.asarray(fake), strict=True):
    panel.annotate(
      '',
      (sample, 0.08),
      (latent, 0.92),
      arrowprops={'arrowstyle': '->', 'color': _FAKE, 'linewidth': 1.4},
    )
  panel.plot(z, np.ones_like(z), 'o', color=INK, label='latents z')
  panel.plot(fake, 0 * fake, 'o', color=_FAKE, label='generated z + θ')
  panel.plot(real, 0 * real, 'o', color=_REAL, label='real x')
  panel.set_ylim(-0.15, 1.5)
  panel.set_yticks([])
  panel.legend(loc='upper right', frameon=False, fontsize=9)
  finish(panel, 'The generator maps latents to samples', 'z, x')


def _draw_costs(
  panel: Axes, players: Players, real: jax.Array, fake: jax.Array
) -> None:
  """Draws the discriminator's loss on each example against its logit."""
  logits = np.linspace(-5, 5, 200)
  panel.plot(logits, np.logaddexp(0, -logits), color=_REAL, label='of real x')
  panel.plot(logits, np.logaddexp(0, logits), color=_FAKE, label='of generated')
  for x, sign, colour in ((real, -1, _REAL), (fake, 1, _FAKE)):
    here = np.asarray(game.logits(players.phi, x))
    panel.plot(here, np.logaddexp(0, sign * here), 'o', color=colour)
  panel.set_xlim(-5, 5)
  panel.set_ylim(-0.1, 5)
  panel.legend(loc='upper center', frameon=False, fontsize=9)
  finish(panel, 'What that costs the discriminator', 'logit', 'nats')


def losses_figure(key: jax.Array) -> Figure:
  """Shows samples, their probabilities and their losses (UDL figure 15.2)."""
  real, z = _data(key)
  players = _at(game.play(_start(), real, z, 1), 1)
  fake = game.generate(players.theta, z)
  figure = create_figure(11, 3.6)
  mapping, opinions, costs = figure.subplots(1, 3)
  _draw_mapping(mapping, real, z, fake)
  _draw_game(opinions, players, real, z)
  for x, colour in ((real, _REAL), (fake, _FAKE)):
    probability = jax.nn.sigmoid(game.logits(players.phi, x))
    opinions.plot(x, probability, 'o', color=colour)
  finish(opinions, 'The discriminator gives probabilities', 'x', 'Pr(real)')
  _draw_costs(costs, players, real, fake)
  return figure


def training_figure(key: jax.Array) -> Figure:
  """Shows both players over many rounds, until the game comes to rest."""
  real, z = _data(key)
  turns = game.play(_start(), real, z, _NUM_LONG_ROUNDS, d_pace=_LONG_PACE)
  rounds = np.arange(2 * _NUM_LONG_ROUNDS + 1) / 2
  d_loss = jax.vmap(
    lambda players: game.total_discriminator_loss(
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


FIGURES: draw_command.Figures = {
  'mechanism.png': mechanism_figure,
  'losses.png': losses_figure,
  'training.png': training_figure,
}


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return draw_command.run(argv, FIGURES, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
