"""Times a hierarchical VAE's train step against PyTorch.

  python -m benchmarks.hierarchical [--batch_size=128] [--rounds=11] [--steps=3]
      [--output=FILE.json] [--only=PyTorch]

The networks and the objective are those of `configs/hvae.py:mnist`, on images
that are binarised anew in every step. All contenders run the full step and take
turns. PyTorch, installed by the extra `bench`, runs eagerly in both memory
layouts, and compiled. Prints a Markdown table.
"""

from collections.abc import Sequence
import dataclasses
import functools
import sys

from absl import flags
import jax
from ml_collections import ConfigDict
import numpy as np

from benchmarks import table
from benchmarks import turns
from common_flax import config as config_lib
from common_flax import prng
from common_flax.cli import commands
from common_flax.cpu import memory
from vae_flax import state as vae_state
from vae_flax import steps
from vae_flax.vae import create_vae


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of the networks and the batch."""

  batch_size: int
  image_size: int
  scales: tuple[tuple[int, int, int, int], ...]
  free_nats: float


def sizes_of(config: ConfigDict) -> Sizes:
  """The sizes of a run's config."""
  return Sizes(
    config.batch_size,
    config.dataset.image_size,
    config.model.groups,
    config.free_bits_nats,
  )


def multiply_adds(sizes: Sizes) -> float:
  """Multiply-adds of a step's convolutions, for grey images.

  Each takes as many forward as for the gradient of its weights and for that of
  its input.
  """
  total = 0
  sides = [side for side, *_ in sizes.scales] + [sizes.image_size]
  widths = [width for _, width, *_ in sizes.scales] + [1]
  for i, (side, width, num_groups, channels) in enumerate(sizes.scales):
    half = width // 2
    mix = half**2 * (9 if side > 1 else 1)
    # Encoder, prior, posterior and the block after a group.
    inputs = width + width + 2 * width + width
    outputs = width + (width + 2 * channels) + 2 * channels + width
    group = half * (inputs + outputs) + 4 * mix + channels * width
    total += num_groups * side**2 * group
    # To the next finer side and from it.
    total += 2 * sides[i + 1] ** 2 * widths[i + 1] * width
  return float(3 * sizes.batch_size * total)


def build_jax(config: ConfigDict) -> turns.Run:
  """Builds our step."""
  memory.keep_freed()
  size = config.dataset.image_size
  shape = (size, size, 1)
  vae = create_vae(config, shape)
  root = prng.root_key(0)
  state = jax.jit(functools.partial(vae_state.init_state, vae, root))()
  step = jax.jit(functools.partial(steps.train_step, vae), donate_argnums=0)
  batch = jax.device_put(
    np.random.default_rng(0).integers(
      0, 256, (1, config.batch_size, *shape), np.uint8
    )
  )
  return turns.repeating(step, state, batch, root)


def build_torch(sizes: Sizes, **options: bool) -> turns.Run:
  """Builds PyTorch's step with the options of `torch_hierarchical.Step`."""
  # Without the extra `bench` the import fails and the contender is left out.
  from benchmarks import torch_hierarchical

  return torch_hierarchical.Step(**dataclasses.asdict(sizes), **options)


def contenders(config: ConfigDict) -> dict[str, turns.Build]:
  """Returns the contenders by name."""
  builds = {table.OURS: functools.partial(build_jax, config)}
  torch = functools.partial(build_torch, sizes_of(config))
  for name, options in (
    ('PyTorch', {'channels_last': False, 'compiled': False}),
    ('PyTorch, channels_last', {'channels_last': True, 'compiled': False}),
    ('PyTorch, compiled', {'channels_last': False, 'compiled': True}),
  ):
    builds[name] = functools.partial(torch, **options)
  return builds


def _define_flags(values: flags.FlagValues) -> None:
  table.define_flags(values, batch_size=128, rounds=11, steps=3)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  config = config_lib.load('hvae:mnist').unlock()
  config.batch_size = values.batch_size
  sizes = sizes_of(config)
  table.compare(
    values,
    contenders(config),
    sizes,
    multiply_adds(sizes),
    'convolutions only',
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
