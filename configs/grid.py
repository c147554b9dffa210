"""25 Gaussians on a grid: ten GANs at once, and which modes they cover.

  python -m gan_flax.main --config=configs/grid.py[:VARIANT]
  python -m gan_flax.evaluate --workdir=runs/grid[_VARIANT]

The world and the count of modes are PacGAN's (Lin et al. 2018,
arXiv:1712.04086); the remedy is R3GAN's objective, relativistic pairs with a
penalty on the discriminator's slope at real and at generated points (Huang et
al. 2024, arXiv:2501.05441).

Measured on one core of a shared x86 CPU (AVX-512), 23 November 2026, while
other work kept the second one busy; means and standard errors of ten seeds,
2,500 samples each:

  (none)   25 of 25 modes in all ten, 96.0 +- 0.2 % of high quality, KL 0.010
           nats; 10 min for the ten. Seeds 100 to 109 (`--config.seed=100`), on
           which nothing was tuned: 25 of 25 in all ten, 96.0 %, 0.009.
  control  The same networks and steps with the usual loss and no penalty:
           1.3 +- 0.2 modes, 99.2 %, 3.05 nats; 5 min.
  pacgan   PacGAN4's networks and settings, for a GPU; the players move in turn,
           and the generator's batch norm is over all points of a batch. Not
           measured; the paper has 24.8 modes, 93.6 %, 0.04.
  smoke    Two seeds, in seconds: it shows that everything works.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_RING = runpy.run_path(str(pathlib.Path(__file__).with_name('ring.py')))


def get_config(variant: str = '') -> ConfigDict:
  """The ring's configuration of a variant, with what the grid needs more.

  Raises:
    ValueError: if there is no such variant.
  """
  if variant == 'fragile':
    raise ValueError('the grid has no such variant; the ring has')
  config = _RING['get_config'](variant).unlock()
  config.dataset.name = 'grid'
  if variant in ('', 'control'):
    config.num_steps = 80_000
    for player in (config.generator, config.discriminator):
      player.learning_rate = 2e-3
  if variant == 'pacgan':  # PacGAN4
    config.batch_size = 400
    config.model.packing = 4
  return config.lock()
