"""Times a DCGAN's train step against PyTorch and plain Flax.

  python -m benchmarks.dcgan [--image_size=32] [--channels=1]
      [--base_features=64] [--batch_size=64] [--output=FILE.json]
      [--only='PyTorch, channels_last']

All contenders run the full alternating step, one update of the discriminator
and one of the generator, and take turns. PyTorch, installed by the extra
`bench`, runs eagerly and compiled, in both memory layouts. Prints a Markdown
table.
"""

from collections.abc import Sequence
import dataclasses
import functools
import itertools
import sys

from absl import flags
import jax
import numpy as np

from benchmarks import flax_dcgan
from benchmarks import table
from benchmarks import turns
from common_flax import prng
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.errors import UserError
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.gan import create_gan


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of the networks and the batch."""

  image_size: int
  channels: int
  base_features: int
  batch_size: int


def multiply_adds(sizes: Sizes, latent_size: int = 100) -> float:
  """Multiply-adds of a step with direct convolutions.

  A forward and backward pass costs as much as three forward passes. The
  discriminator counts 3 on real images, 3 on fake images and 2 for the
  generator's gradient. The generator counts 3.
  """
  size, inputs, outputs = (
    sizes.image_size,
    sizes.channels,
    sizes.base_features,
  )
  total = 0
  while size > 4:
    total += (size // 2) ** 2 * 16 * inputs * outputs
    size, inputs, outputs = size // 2, outputs, 2 * outputs
  discriminator = total + 16 * inputs
  generator = total + 16 * inputs * latent_size
  return float(sizes.batch_size * (8 * discriminator + 3 * generator))


def build_jax(sizes: Sizes, plain: bool, compute_dtype: str) -> turns.Run:
  """Builds our step; with `plain`, the same step on Flax's own layers."""
  memory.keep_freed()
  config = gan_config.default().unlock()
  config.model.base_features = sizes.base_features
  config.compute_dtype = compute_dtype
  shape = (sizes.image_size, sizes.image_size, sizes.channels)
  gan = create_gan(config, shape)
  if plain:
    gan = dataclasses.replace(
      gan,
      generator=flax_dcgan.Generator(shape, sizes.base_features),
      discriminator=flax_dcgan.Discriminator(shape, sizes.base_features),
    )
  root = prng.root_key(0)
  state = jax.jit(functools.partial(gan_state.init_state, gan, root))()
  step = jax.jit(functools.partial(steps.train_step, gan), donate_argnums=0)
  batch = jax.device_put(
    np.random.default_rng(0).integers(
      0, 256, (1, sizes.batch_size, *shape), np.uint8
    )
  )

  return turns.repeating(step, state, batch, root)


def build_torch(sizes: Sizes, **options: bool) -> turns.Run:
  """Builds PyTorch's step with the options of `torch_dcgan.Step`."""
  # Without the extra `bench` the import fails and the contender is left out.
  from benchmarks import torch_dcgan

  return torch_dcgan.Step(**dataclasses.asdict(sizes), **options)


def contenders(sizes: Sizes) -> dict[str, turns.Build]:
  """Returns the contenders by name."""
  ours = functools.partial(build_jax, sizes)
  builds = {
    table.OURS: functools.partial(ours, False, 'float32'),
    table.OURS_BFLOAT16: functools.partial(ours, False, 'bfloat16'),
    'Flax layers': functools.partial(ours, True, 'float32'),
  }
  for layout, compiled, bfloat16 in itertools.product((False, True), repeat=3):
    parts = [
      'PyTorch',
      'channels_last' * layout,
      'compiled' * compiled,
      'bfloat16' * bfloat16,
    ]
    builds[', '.join(filter(None, parts))] = functools.partial(
      build_torch,
      sizes,
      channels_last=layout,
      compiled=compiled,
      bfloat16=bfloat16,
    )
  return builds


def _define_flags(values: flags.FlagValues) -> None:
  table.define_flags(
    values,
    image_size=32,
    channels=1,
    base_features=64,
    batch_size=64,
    rounds=11,
    steps=4,
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  side = values.image_size
  if side < 8 or side & (side - 1):
    raise UserError(f'--image_size={side}: use 8, 16, 32, 64 or 128')
  sizes = Sizes(
    values.image_size, values.channels, values.base_features, values.batch_size
  )
  table.compare(
    values,
    contenders(sizes),
    sizes,
    multiply_adds(sizes),
    'direct convolutions',
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
