"""25 Gaussians on a grid: mode coverage of ten GANs trained at once.

  python -m gan_flax.main --config=configs/grid.py[:VARIANT]
  python -m gan_flax.evaluate --workdir=runs/grid[_VARIANT]

The data and the mode count are PacGAN's (Lin et al. 2018, arXiv:1712.04086).
The remedy for mode collapse is R3GAN's objective: a relativistic loss with
gradient penalties at real and generated points (Huang et al. 2024,
arXiv:2501.05441).

Measured on one core of a shared x86 CPU (AVX-512) on 23 November 2026, while
other work kept the second core busy. Numbers are means and standard errors over
ten seeds, with 2,500 samples each:

  (none)   25 of 25 modes for every seed, 96.0 +- 0.2 % high-quality samples,
           KL 0.010 nats; 10 min for all ten. Seeds 100 to 109
           (`--config.seed=100`), not used for tuning: 25 of 25 modes for every
           seed, 96.0 %, 0.009 nats.
  control  The same networks and steps with the non-saturating loss and no
           penalty: 1.3 +- 0.2 modes, 99.2 %, 3.05 nats; 5 min.
  pacgan   PacGAN4's networks and settings, for a GPU. Here the players update
           in turn, and the generator's batch norm covers all points of a batch.
           Not measured; the paper reports 24.8 modes, 93.6 %, 0.04.
  smoke    Two seeds: a test run of a few seconds.
"""

import pathlib
import runpy

from ml_collections import ConfigDict

_RING = runpy.run_path(str(pathlib.Path(__file__).with_name('ring.py')))


def get_config(variant: str = '') -> ConfigDict:
  """Returns the ring's configuration of a variant, adapted to the grid.

  Raises:
    ValueError: if the variant is unknown.
  """
  if variant == 'fragile':
    raise ValueError("no variant 'fragile'; use ring.py:fragile")
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
