"""What to try when training fails.

Each failure has remedies of its own. A setting far outside the range in which
GANs are known to train comes before them, because it is the likelier cause.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from gan_flax.models import MODELS

# Adam's learning rates in the papers of the recipes lie between 5e-5 and 5e-4;
# small networks for points stand ten times as much.
_LOWEST_RATE, _HIGHEST_RATE = 2e-6, 5e-3
_HIGHEST_B1 = 0.95  # DCGAN found 0.9 too high
_HIGHEST_PENALTY = 1e3  # WGAN-GP's is 10, StyleGAN's R1 at most a few hundred
_LOWEST_CLIP = 1e-3  # WGAN's is 0.01
_MOST_STEPS = 10  # WGAN's are 5
_FEWEST_PACKS = 4  # whose batch norm tells real from generated batches


class Remedy(NamedTuple):
  """Something to try."""

  field: str  # of the config
  words: str  # completes "Try "


def suspects(config: ConfigDict) -> tuple[Remedy, ...]:
  """Remedies of settings far outside the usual range, with their values."""
  found = []

  def check(field: str, value: float, low: float, high: float) -> None:
    if value < low:
      found.append(Remedy(field, f'a higher {field} ({value:g} is very low)'))
    if value > high:
      found.append(Remedy(field, f'a lower {field} ({value:g} is very high)'))

  most = float('inf')
  for name in ('generator', 'discriminator'):
    player = config[name]
    rate = player.learning_rate
    check(f'{name}.learning_rate', rate, _LOWEST_RATE, _HIGHEST_RATE)
    check(f'{name}.b1', player.b1, 0, _HIGHEST_B1)
  for name in ('gradient', 'r1', 'r2'):
    check(f'penalty.{name}', config.penalty[name], 0, _HIGHEST_PENALTY)
  if config.penalty.max_weight is not None:
    clip = config.penalty.max_weight
    check('penalty.max_weight', clip, _LOWEST_CLIP, most)
  check('discriminator_steps', config.discriminator_steps, 1, _MOST_STEPS)
  norms = config.model.generator_norm, config.model.discriminator_norm
  if norms[0] == 'none':
    words = "model.generator_norm='batch' (it is 'none')"
    found.append(Remedy('model.generator_norm', words))
  if norms[1] == 'batch' and MODELS[config.model.name].has_norms:
    packs = config.batch_size // config.model.packing
    check('batch_size / model.packing', packs, _FEWEST_PACKS, most)
  return tuple(found)


def advise(suspects: Sequence[Remedy], remedies: Sequence[Remedy]) -> str:
  """Says what to try: first the suspects, then the other remedies.

  Returns:
    A sentence such as "Try a lower generator.learning_rate or augmentation."
  """
  named = {suspect.field for suspect in suspects}
  others = [remedy for remedy in remedies if remedy.field not in named]
  *firsts, last = (remedy.words for remedy in (*suspects, *others))
  return f'Try {", ".join(firsts)}{", or " if firsts else ""}{last}.'
