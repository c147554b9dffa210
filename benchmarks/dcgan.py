"""Times a DCGAN's train step against PyTorch's and against plain Flax's.

  python -m benchmarks.dcgan [--image_size=32] [--channels=1]
      [--base_features=64] [--batch_size=64] [--output=FILE.json]

Each contender takes the full alternating step, one update of the discriminator
and one of the generator, in turn with the others. PyTorch comes with the extra
`bench`: eager, in either memory layout, and compiled. Prints a Markdown table.
"""

from collections.abc import Sequence
import dataclasses
import functools
import sys

from absl import flags
import numpy as np

from benchmarks import turns
from common_flax import commands


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


def build_jax(sizes: Sizes, plain: bool, compute_dtype: str):
  """Ours, or with `plain` the same step on Flax's layers."""
  from common_flax import memory

  memory.keep_freed()
  import jax

  from benchmarks import flax_dcgan
  from common_flax import prng
  from gan_flax import config as gan_config
  from gan_flax import state as gan_state
  from gan_flax import steps

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

  def run(num_steps: int) -> None:
    nonlocal state
    for _ in range(num_steps):
      state, _ = step(state, batch, root)
    jax.block_until_ready(state)

  return run


def build_torch(sizes: Sizes, **options: bool):
  """PyTorch's; the options are those of `torch_dcgan.Step`."""
  from benchmarks import torch_dcgan

  return torch_dcgan.Step(**dataclasses.asdict(sizes), **options)


def contenders(sizes: Sizes) -> dict[str, turns.Build]:
  """What can be compared, by name; ours first."""
  ours = functools.partial(build_jax, sizes)
  torch = functools.partial(build_torch, sizes)
  eager = {'channels_last': False, 'compiled': False, 'bfloat16': False}
  last = eager | {'channels_last': True}
  return {
    'ours': functools.partial(ours, False, 'float32'),
    'ours, bfloat16': functools.partial(ours, False, 'bfloat16'),
    'Flax layers': functools.partial(ours, True, 'float32'),
    'PyTorch': functools.partial(torch, **eager),
    'PyTorch, channels_last': functools.partial(torch, **last),
    'PyTorch, compiled': functools.partial(torch, **eager | {'compiled': True}),
    'PyTorch, channels_last, compiled': functools.partial(
      torch, **last | {'compiled': True}
    ),
    'PyTorch, channels_last, bfloat16': functools.partial(
      torch, **last | {'bfloat16': True}
    ),
  }


def _define_flags(values: flags.FlagValues) -> None:
  for name, default in (
    ('image_size', 32),
    ('channels', 1),
    ('base_features', 64),
    ('batch_size', 64),
    ('rounds', 11),
    ('steps', 4),
  ):
    flags.DEFINE_integer(name, default, '', 1, flag_values=values)
  flags.DEFINE_list('only', None, 'Contenders, by name.', flag_values=values)
  flags.DEFINE_string('output', None, 'FILE.json', flag_values=values)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  sizes = Sizes(
    values.image_size, values.channels, values.base_features, values.batch_size
  )
  builds = contenders(sizes)
  if values.only:
    builds = {
      n: b
      for n, b in builds.items()
      if n.split(', ') in [o.split(' ') for o in values.only]
      or n in values.only
    }
  seconds = turns.time_in_turns(builds, values.rounds, values.steps)
  rows = []
  for name, times in seconds.items():
    median, low, high = turns.ratio(seconds, name, 'ours')
    ms = [
      f'{1000 * t:.0f}'
      for t in (np.median(times), *np.percentile(times, (25, 75)))
    ]
    rows.append(
      [
        name,
        ms[0],
        f'{ms[1]} to {ms[2]}',
        f'{sizes.batch_size / np.median(times):,.0f}',
        f'{median:.2f}',
        f'{low:.2f} to {high:.2f}',
      ]
    )
  print(turns.machine())
  print(
    turns.markdown(
      ['step', 'ms', 'quartiles', 'images/s', 'ours is x times', 'q'], rows
    )
  )
  if values.output:
    turns.write_json(values.output, seconds)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
