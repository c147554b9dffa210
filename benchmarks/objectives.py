"""Trains with every loss, penalty and norm, and checks for NaN.

  python -m benchmarks.objectives [--steps=200] [--base_features=16]

Each variant trains on the digits in float32 and in bfloat16; all other settings
are DCGAN's defaults. Prints a Markdown table of the last step's metrics. The
exit status is 1 if any metric of any step was not finite.
"""

from collections.abc import Sequence
import functools
import itertools
import sys
from typing import Any

from absl import flags
import jax
from ml_collections import ConfigDict
import numpy as np
import rich.progress

from benchmarks import turns
from common_flax import data
from common_flax import prng
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.data.batches import example_batches
from common_flax.data.source import Source
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.gan import create_gan
from gan_flax.losses import LOSSES

_LAYER_NORM = {'model.discriminator_norm': 'layer'}
_SPECTRAL = {'model.discriminator_norm': 'none', 'model.spectral_norm': True}

# The fields of each variant that differ from the defaults.
VARIANTS: dict[str, dict[str, Any]] = {
  **{
    name: {'loss.name': name}
    for name, loss in LOSSES.items()
    if not loss.needs_bound
  },
  'wasserstein, clipped weights': {
    'loss.name': 'wasserstein',
    'penalty.max_weight': 0.01,
  },
  'wasserstein, gradient penalty': {
    'loss.name': 'wasserstein',
    'penalty.gradient': 10.0,
    **_LAYER_NORM,
  },
  'wasserstein, spectral norm': {'loss.name': 'wasserstein', **_SPECTRAL},
  'hinge, spectral norm': {'loss.name': 'hinge', **_SPECTRAL},
  'R1': {'penalty.r1': 1.0, **_LAYER_NORM},
  'R1, falling to a tenth': {
    'penalty.r1': 1.0,
    'penalty.final_share': 0.1,
    **_LAYER_NORM,
  },
  'R1, each fourth step': {
    'penalty.r1': 1.0,
    'penalty.every_steps': 4,
    **_LAYER_NORM,
  },
  'relativistic, R1, R2': {
    'loss.name': 'relativistic',
    'penalty.r1': 1.0,
    'penalty.r2': 1.0,
    'model.discriminator_norm': 'none',
  },
  'packs of 2': {'model.packing': 2},
  'group norm': {'model.discriminator_norm': 'group'},
  'no norm': {'model.discriminator_norm': 'none'},
  'minibatch deviation': {'model.minibatch_deviation': True},
  **{
    f'{name} augmented': {f'augmentation.{name}': True}
    for name in ('color', 'translation', 'cutout')
  },
  'residual networks, hinge, spectral norm': {
    'loss.name': 'hinge',
    'model.name': 'resnet',
    **_SPECTRAL,
  },
}
_HEADER = ('objective', 'type', 'd_loss', 'g_loss', 'd_grad_norm', 'finite')


def create_config(
  variant: str, compute_dtype: str, base_features: int
) -> ConfigDict:
  """Returns the checked config of a variant."""
  config = gan_config.default()
  config.compute_dtype = compute_dtype
  config.model.base_features = base_features
  config.update_from_flattened_dict(VARIANTS[variant])
  gan_config.check(config)
  return config


def train(
  config: ConfigDict, source: Source, num_steps: int
) -> dict[str, np.ndarray]:
  """Trains; returns the metrics of every step, [num_steps] each."""
  gan = create_gan(config, source.example_shape)
  root = prng.root_key(config.seed)
  state = jax.jit(functools.partial(gan_state.init_state, gan, root))()
  step = jax.jit(functools.partial(steps.train_step, gan), donate_argnums=0)
  rows = []
  for batch in example_batches(
    source,
    seed=config.seed,
    batch_size=config.batch_size,
    batches_per_step=config.discriminator_steps,
    start_step=0,
    num_steps=num_steps,
  ):
    state, metrics = step(state, batch, root)
    rows.append(metrics)
  rows = jax.device_get(rows)
  return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(values, steps=200, base_features=16)


def _main(values: flags.FlagValues, arguments: list[str]) -> int:
  commands.parse(values, arguments)
  memory.keep_freed()
  default = gan_config.default()
  source = data.load_source('digits', 'train', default.dataset.image_size)
  rows, are_finite = [], True
  trainings = list(itertools.product(VARIANTS, ('float32', 'bfloat16')))
  for variant, dtype in rich.progress.track(trainings, 'Training'):
    config = create_config(variant, dtype, values.base_features)
    metrics = train(config, source, values.steps)
    is_finite = all(np.isfinite(x).all() for x in metrics.values())
    are_finite &= is_finite
    last = (metrics[name][-1] for name in _HEADER[2:-1])
    numbers = (f'{value:.3g}' for value in last)
    rows.append((variant, dtype, *numbers, 'yes' if is_finite else 'NO'))
  print(f'\n{values.steps} steps on the digits, {turns.machine()}\n')
  print(turns.markdown(_HEADER, rows))
  return 0 if are_finite else 1


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
