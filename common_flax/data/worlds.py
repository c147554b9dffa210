"""Toy worlds: mixtures of Gaussians in the plane, whose modes can be counted.

As in PacGAN (Lin et al. 2018, arXiv:1712.04086, section 4.1, after Srivastava
et al. 2017, arXiv:1705.07761): modes of equal weight and equal, isotropic
variance, and 100,000 points to train on.

Dimensions: N points, K modes.
"""

import dataclasses
import math

import numpy as np

from common_flax.data.source import ArraySource
from common_flax.data.source import unreadable_split

# split -> number of points, seed of their draw.
_SPLITS = {'train': (100_000, 0), 'test': (10_000, 1)}


@dataclasses.dataclass(frozen=True)
class World:
  """A mixture of Gaussians with equal weights."""

  centres: tuple[tuple[float, float], ...]  # means of the modes
  deviation: float  # standard deviation of every mode, along each axis

  @property
  def extent(self) -> float:
    """The largest absolute coordinate of a centre."""
    return max(abs(x) for centre in self.centres for x in centre)


def _ring(num_modes: int, radius: float, deviation: float) -> World:
  angles = [2 * math.pi * i / num_modes for i in range(num_modes)]
  centres = tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)
  return World(centres, deviation)


def _grid(places: tuple[float, ...], deviation: float) -> World:
  return World(tuple((x, y) for x in places for y in places), deviation)


WORLDS = {
  'ring': _ring(8, 1.0, 0.01),
  'grid': _grid((-4.0, -2.0, 0.0, 2.0, 4.0), 0.05),
}


def load(name: str, split: str) -> ArraySource:
  """Draws the points of a world, labelled by their mode.

  Args:
    name: one of WORLDS.
    split: 'train' (100,000 points) or 'test' (10,000 points).

  Raises:
    UserError: if there is no such split.
  """
  if split not in _SPLITS:
    raise unreadable_split(split, f'{name} has the splits train and test')
  world = WORLDS[name]
  num, seed = _SPLITS[split]
  # NumPy promises never to change the numbers of this generator.
  random = np.random.RandomState(seed)
  labels = random.randint(len(world.centres), size=num)
  noise = world.deviation * random.standard_normal((num, 2))
  points = np.asarray(world.centres)[labels] + noise
  return ArraySource(
    examples=points.astype(np.float32),
    labels=labels.astype(np.int32),
    num_classes=len(world.centres),
  )
