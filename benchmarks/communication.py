"""Counts the communication between devices in a DCGAN's train step.

  python -m benchmarks.communication [--image_size=64] [--batch_size=16384]

The step is compiled for virtual CPU devices in the form it has on a TPU, and
the all-reduces are read from the compiled program. Their time on a pod is
estimated from a ring of all its chips: in each all-reduce of b bytes over n
chips, every chip sends and receives 2 b (n - 1) / n bytes after a fixed delay.
"""

from collections.abc import Sequence
import functools
import math
import re
import sys
from unittest import mock

from absl import flags
import jax
from jax import lax
import numpy as np

from benchmarks import turns
from common_flax import prng
from common_flax.cli import commands
from common_flax.distributed import sharding
from common_flax.training import loop
from common_flax.training.speed import count_flops
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.gan import create_gan

_NUM_DEVICES = 8  # virtual; the all-reduces are the same for any number
_BYTES = {'f32': 4, 'bf16': 2, 'f64': 8, 's32': 4, 'pred': 1}


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(
    values,
    image_size=64,
    channels=3,
    base_features=64,
    batch_size=16_384,
    chips=256,
  )
  flags.DEFINE_float(
    'gigabytes_per_second',
    200.0,
    'Bandwidth of all links of a chip together, in one direction.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'teraflops_per_second',
    197.0,
    'Peak rate of a chip in bfloat16.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'utilisation',
    0.3,
    'Share of the peak rate that a step reaches.',
    flag_values=values,
  )
  flags.DEFINE_float(
    'microseconds_per_sum',
    20.0,
    'Delay before the data of an all-reduce flow.',
    flag_values=values,
  )


def sums_of(program: str) -> list[int]:
  """Returns the bytes of each all-reduce in a compiled program."""
  sums = []
  for types in re.findall(r'= (.*?) all-reduce(?:-start)?\(', program):
    sizes = re.findall(r'(\w+)\[([\d,]*)\]', types)
    sums.append(
      sum(
        _BYTES[kind] * math.prod(int(n) for n in shape.split(',') if n)
        for kind, shape in sizes
      )
    )
  return sums


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  jax.config.update('jax_num_cpu_devices', _NUM_DEVICES)
  config = gan_config.default().unlock()
  config.model.base_features = values.base_features
  shape = (values.image_size, values.image_size, values.channels)
  gan = create_gan(config, shape)
  root = prng.root_key(0)
  train_step = functools.partial(steps.train_step, gan)
  state = jax.eval_shape(functools.partial(gan_state.init_state, gan, root))
  parallel = sharding.create('jit')
  step = loop.compile_step(train_step, parallel, config, is_convolutional=True)
  images = np.zeros((1, 1, _NUM_DEVICES, *shape), np.uint8)
  with mock.patch.object(lax, 'platform_dependent', _not_on_a_cpu):
    lowered = step.lower(
      _on(state, parallel.state_sharding), parallel.put_batches(images), root
    )
  sums = sums_of(lowered.compile().as_text())
  batch = jax.ShapeDtypeStruct((1, values.batch_size, *shape), np.uint8)
  traced = jax.jit(train_step).trace(state, batch, root)
  flops = count_flops(traced) / values.chips
  seconds = flops / (values.utilisation * values.teraflops_per_second * 1e12)
  ring = 2 * (values.chips - 1) / values.chips
  flow = ring * sum(sums) / (values.gigabytes_per_second * 1e9)
  delays = len(sums) * values.microseconds_per_sum / 1e6
  share = (flow + delays) / (seconds + flow + delays)
  large = [size for size in sums if size >= 65_536]
  rows = [
    ['all-reduces', f'{len(sums)}'],
    ['bytes reduced', f'{sum(sums):,}'],
    ['of these in all-reduces of at least 64 KiB', f'{sum(large):,}'],
    ['images per chip', f'{values.batch_size / values.chips:,.0f}'],
    ['arithmetic', f'{1e3 * seconds:.2f} ms'],
    ['transfer', f'{1e3 * flow:.2f} ms'],
    ['delays', f'{1e3 * delays:.2f} ms'],
    ['communication as a share of the step', f'{share:.0%}'],
  ]
  print(f'{shape}, {values.base_features} features, {values.chips} chips\n')
  print(turns.markdown(('', ''), rows))


def _not_on_a_cpu(*operands, default, **unused_others):
  return default(*operands)


def _on(tree, where: jax.sharding.Sharding):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
