"""Times residual GANs' train steps against PyTorch.

  python -m benchmarks.resnet [--network=r3gan] [--image_size=32]
      [--base_features=64] [--group_size=16] [--batch_size=32]
      [--output=FILE.json] [--only='PyTorch, channels_last']

The networks are R3GAN's, with its relativistic loss, R1 and R2, or SNGAN's
(`--network=resnet`), with spectral norm and the hinge loss. All contenders run
the full alternating step, one update of the discriminator and one of the
generator, on colour images, and take turns. PyTorch, installed by the extra
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
from ml_collections import ConfigDict
import numpy as np

from benchmarks import table
from benchmarks import turns
from common_flax import prng
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.errors import UserError
from common_flax.images import doublings
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.gan import create_gan
from gan_flax.models import r3gan

CHANNELS = 3
NETWORKS = ('r3gan', 'resnet')


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of the networks and the batch."""

  network: str
  image_size: int
  base_features: int
  group_size: int
  batch_size: int

  @property
  def sides(self) -> list[int]:
    """Image sides of the stages, from the coarsest on."""
    (start, _), count = doublings(self.image_size)
    return [start * 2**i for i in range(count + 1)]

  @property
  def widths(self) -> tuple[int, ...]:
    """Features of R3GAN's stages."""
    return r3gan.widths(self.image_size, self.base_features)


def multiply_adds(sizes: Sizes) -> float:
  """Multiply-adds of a step with direct convolutions in all blocks.

  A forward and backward pass costs as much as three forward passes. R3GAN's
  discriminator counts 4 on real and 4 on fake images: a forward pass, the
  gradient of the images, and 2 for what depends on the weights in it, of which
  `penalties.logits_and_input_gradients` makes the loss as well. PyTorch's takes
  6 and 6. For the generator's gradient it counts 3, because the relativistic
  loss sees real images, too. Its generator counts 3. SNGAN's count 8 and 3.
  """
  total = 0
  for side, width in zip(sizes.sides, sizes.widths, strict=True):
    block = 2 * width * (2 * width + 9 * sizes.group_size)
    total += 2 * side**2 * block
  if sizes.network == 'r3gan':
    return float(sizes.batch_size * total * (2 * 4 + 3 + 3))
  return float(sizes.batch_size * (8 * _sngan(sizes) + 3 * _sngan(sizes, 2)))


def _sngan(sizes: Sizes, widening: int = 1) -> int:
  """Multiply-adds of SNGAN's blocks on one image."""
  kernel = 9 * (widening * sizes.base_features) ** 2
  if widening == 2:  # the generator
    return sum(2 * side**2 * kernel for side in sizes.sides[1:])
  sides = sizes.sides
  num_halvings = max(1, len(sides) - 2)
  halving = sum(2 * side**2 * kernel for side in sides[::-1][:num_halvings])
  return halving + 4 * sides[::-1][num_halvings] ** 2 * kernel


def create_config(sizes: Sizes, compute_dtype: str) -> ConfigDict:
  """Returns the checked config of our step."""
  config = gan_config.default().unlock()
  config.compute_dtype = compute_dtype
  config.batch_size = sizes.batch_size
  config.dataset.image_size = sizes.image_size
  config.model.name = sizes.network
  config.model.latent_size = 64
  config.model.base_features = sizes.base_features
  config.model.discriminator_norm = 'none'
  if sizes.network == 'r3gan':
    config.model.group_size = sizes.group_size
    config.loss.name = 'relativistic'
    config.penalty.r1 = config.penalty.r2 = 0.05
  else:
    config.model.spectral_norm = True
    config.loss.name = 'hinge'
  gan_config.check(config)
  return config


def build_jax(sizes: Sizes, compute_dtype: str) -> turns.Run:
  """Builds our step."""
  memory.keep_freed()
  shape = (sizes.image_size, sizes.image_size, CHANNELS)
  gan = create_gan(create_config(sizes, compute_dtype), shape)
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
  """Builds PyTorch's step with the options of `torch_resnet.Step`."""
  # Without the extra `bench` the import fails and the contender is left out.
  from benchmarks import torch_resnet

  return torch_resnet.Step(
    sizes.network,
    sizes.sides[0],
    sizes.widths,
    sizes.image_size,
    sizes.batch_size,
    sizes.group_size,
    **options,
  )


def contenders(sizes: Sizes) -> dict[str, turns.Build]:
  """Returns the contenders by name."""
  ours = functools.partial(build_jax, sizes)
  builds = {
    table.OURS: functools.partial(ours, 'float32'),
    table.OURS_BFLOAT16: functools.partial(ours, 'bfloat16'),
  }
  for layout, compiled in itertools.product((False, True), repeat=2):
    parts = ['PyTorch', 'channels_last' * layout, 'compiled' * compiled]
    builds[', '.join(filter(None, parts))] = functools.partial(
      build_torch, sizes, channels_last=layout, compiled=compiled
    )
  return builds


def _define_flags(values: flags.FlagValues) -> None:
  table.define_flags(
    values,
    image_size=32,
    base_features=64,
    group_size=16,
    batch_size=32,
    rounds=7,
    steps=1,
  )
  flags.DEFINE_enum(
    'network', 'r3gan', NETWORKS, 'Which networks.', flag_values=values
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  try:
    doublings(values.image_size)
  except ValueError as error:
    raise UserError(f'--image_size={values.image_size}: {error}') from error
  try:
    r3gan.check_sizes(
      values.image_size, values.base_features, values.group_size
    )
  except ValueError as error:
    raise UserError(f'--{error}') from error
  sizes = Sizes(
    values.network,
    values.image_size,
    values.base_features,
    values.group_size,
    values.batch_size,
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
