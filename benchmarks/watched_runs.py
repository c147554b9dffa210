"""Small GAN runs that are broken on purpose, and healthy ones, for the watch.

Every run trains for at most 1,000 steps on one of three small data sets that
need no network: the embedded digits at 16x16, 1,000 colour patches at 16x16 of
the two photographs that come with scikit-learn, and grey ones at 64x64.
"""

from collections.abc import Mapping
import dataclasses
import functools
import pathlib
from typing import Any

from ml_collections import ConfigDict
import numpy as np
import PIL.Image
from sklearn import datasets

from common_flax import config as config_lib
from common_flax import data
from common_flax.data.source import Source

NUM_STEPS = 1000
_CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
_SMALL = {
  'num_steps': NUM_STEPS,
  'batch_size': 32,
  'log_every_steps': 100,
  'sample_every_steps': 10**6,
  'checkpoint_every_steps': 10**6,
  'model.base_features': 8,
  'model.latent_size': 32,
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A run: a recipe, the data, and what is changed."""

  recipe: str = 'dcgan'
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data: str = 'digits'  # a key of DATA
  num_steps: int = NUM_STEPS


@functools.cache
def patches(size: int, channels: int, num: int = 1000) -> np.ndarray:
  """Random patches of scikit-learn's photographs, uint8 [num, S, S, C]."""
  random = np.random.default_rng(0)
  pages = datasets.load_sample_images().images
  crops = []
  for i in range(num):
    page = pages[i % len(pages)]
    side = 2 * size
    top, left = (random.integers(0, n - side) for n in page.shape[:2])
    crop = PIL.Image.fromarray(page[top : top + side, left : left + side])
    crop = crop.convert('RGB' if channels == 3 else 'L')
    crop = crop.resize((size, size), PIL.Image.Resampling.BOX)
    crops.append(np.asarray(crop).reshape(size, size, channels))
  return np.stack(crops)


def _digits() -> Source:
  return data.load_source('digits', 'train', 16)


def _photographs(size: int = 16, channels: int = 3) -> Source:
  return data.from_arrays(patches(size, channels))


def _repeated(source: Source) -> Source:
  """The same image again and again."""
  return data.from_arrays(np.repeat(source.examples[:1], len(source), axis=0))


def _constant(source: Source) -> Source:
  """Images without anything in them, each of one brightness."""
  means = source.examples.mean(axis=(1, 2), keepdims=True)
  flat = np.broadcast_to(means, source.examples.shape)
  return data.from_arrays(flat.astype(np.uint8))


def _leaking(source: Source) -> Source:
  """The labelled images with nothing left that their labels do not say."""
  labels = source.labels
  firsts = np.stack(
    [source.examples[labels == k][0] for k in range(source.num_classes)]
  )
  return data.from_arrays(firsts[labels], labels)


DATA = {
  'digits': _digits,
  'photographs': _photographs,
  'grey photographs': lambda: _photographs(64, 1),
  'one digit': lambda: _repeated(_digits()),
  'one photograph': lambda: _repeated(_photographs()),
  'flat digits': lambda: _constant(_digits()),
  'flat photographs': lambda: _constant(_photographs()),
  'one image a class': lambda: _leaking(_digits()),
}


def _rates(
  generator: float | None = None, discriminator: float | None = None
) -> dict[str, float]:
  rates = {
    'generator.learning_rate': generator,
    'discriminator.learning_rate': discriminator,
  }
  return {name: rate for name, rate in rates.items() if rate is not None}


_BREAKS = {
  'generator.learning_rate=2e-2': _rates(generator=2e-2),
  'generator.learning_rate=1e-7': _rates(generator=1e-7),
  'discriminator.learning_rate=5e-2': _rates(discriminator=5e-2),
  'discriminator.learning_rate=1e-7': _rates(discriminator=1e-7),
  'model.generator_norm=none': {'model.generator_norm': 'none'},
  'no norm, learning rates 5e-3': {
    'model.generator_norm': 'none',
    'model.discriminator_norm': 'none',
    **_rates(5e-3, 5e-3),
  },
  'both learning rates 1e3, bfloat16': {
    **_rates(1e3, 1e3),
    'compute_dtype': 'bfloat16',
  },
  'penalty.max_weight=1e-5': {
    'loss.name': 'wasserstein',
    'penalty.max_weight': 1e-5,
    'model.discriminator_norm': 'none',
  },
  'penalty.r1=1e5': {
    'penalty.r1': 1e5,
    'model.discriminator_norm': 'none',
  },
  'packs of a whole batch': {'batch_size': 8, 'model.packing': 8},
  'discriminator_steps=20': {
    'discriminator_steps': 20,
    'batch_size': 16,
    'model.discriminator_norm': 'none',
    **_rates(discriminator=2e-3),
  },
  'b1=0.99': {'generator.b1': 0.99, 'discriminator.b1': 0.99},
}

BROKEN = {
  **{
    f'{name}, {place}': Case(changes=changes, data=place)
    for name, changes in _BREAKS.items()
    for place in ('digits', 'photographs')
  },
  'generator.learning_rate=2e-2, grey photographs': Case(
    changes={'generator.learning_rate': 2e-2, 'model.base_features': 16},
    data='grey photographs',
  ),
  **{
    place: Case(data=place)
    for place in (
      'one digit',
      'one photograph',
      'flat digits',
      'flat photographs',
    )
  },
  'labels that say everything': Case('conditional', data='one image a class'),
}

HEALTHY = {
  'dcgan, digits': Case(),
  'dcgan, photographs': Case(data='photographs'),
  'r3gan, digits': Case('r3gan'),
  'sngan, digits': Case('sngan'),
  'wgan_gp, digits': Case('wgan_gp', num_steps=500),
  'conditional, digits': Case('conditional'),
  'stacked': Case('stacked', data=''),
  'ring': Case('ring', {'num_seeds': 1, 'log_every_steps': 1000}, '', 10_000),
  'grid': Case('grid', {'num_seeds': 1, 'log_every_steps': 1000}, '', 10_000),
}


def config_of(case: Case, seed: int) -> ConfigDict:
  """The config of a small run of a recipe."""
  config = config_lib.load(str(_CONFIGS / f'{case.recipe}.py')).unlock()
  small = dict(_SMALL)
  if case.recipe in ('ring', 'grid'):
    small = {'sample_every_steps': 10**6, 'checkpoint_every_steps': 10**6}
  config.update_from_flattened_dict(
    small | {'num_steps': case.num_steps, 'seed': seed} | dict(case.changes)
  )
  if case.data:
    config.dataset.image_size = source_of(case).example_shape[0]
  return config.lock()


@functools.cache
def _load(name: str) -> Source:
  return DATA[name]()


def source_of(case: Case) -> Source | None:
  """The data of a case; None where the recipe names it."""
  return _load(case.data) if case.data else None
