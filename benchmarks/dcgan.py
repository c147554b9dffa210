"""Times a DCGAN's train step against PyTorch's and against plain Flax's.

  python -m benchmarks.dcgan [--image_size=32] [--channels=1]
      [--base_features=64] [--batch_size=64] [--output=FILE.json]
      [--only='PyTorch, channels_last']

Each contender takes the full alternating step, one update of the discriminator
and one of the generator, in turn with the others. PyTorch comes with the extra
`bench`: eager, in either memory layout, and compiled. Prints a Markdown table.
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
from common_flax import commands
from common_flax import memory
from common_flax import prng
from common_flax.config import UserError
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of the networks and the batch."""

  image_size: int
  channels: int
  base_features: int
  batch_size: int


def multiply_adds(sizes: Sizes, latent_size: int = 100) -> float:
  """Multiply-adds of a step, as a direct convolution takes them.

  Eleven forward passes of a network: D 3 on real and 3 on fake images, 2 for
  the gradient that reaches the generator, whose own pass counts 3.
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
  """Ours, or with `plain` the same step on Flax's layers."""
  memory.keep_freed()
  config = gan_config.default().unlock()
  config.model.base_features = sizes.base_features
  config.compute_dtype = compute_dtype
  shape = (sizes.image_size, sizes.image_size, sizes.channels)
  gan = gan_state.create_gan(config, shape)
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
  """PyTorch's; the options are those of `torch_dcgan.Step`."""
  # An extra: without it the contender is left out.
  from benchmarks import torch_dcgan

  return torch_dcgan.Step(**dataclasses.asdict(sizes), **options)


def contenders(sizes: Sizes) -> dict[str, turns.Build]:
  """What is compared, by name."""
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
    raise UserError(f'--image_size={side}: take 8, 16, 32, 64 or 128')
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
