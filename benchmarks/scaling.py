"""Times a DCGAN's train step on 1, 2, 4 and 8 devices.

  python -m benchmarks.scaling [--batch_size=64] [--parallelism=jit]

The global batch stays the same. On a CPU the devices are virtual and share its
cores, so the table shows the cost of splitting, not the gain. "In parts" is one
device that processes the shares of the batch one after the other, without
communication. Its loss comes from the small shares and from work that every
device repeats, such as the optimisers.
"""

from collections.abc import Sequence
import functools
import sys

from absl import flags
import jax
import numpy as np

from benchmarks import turns
from common_flax import prng
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.distributed import sharding
from common_flax.training import loop
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.gan import create_gan

_NUM_DEVICES = (1, 2, 4, 8)
_IMAGE_SHAPE = (32, 32, 1)
_KINDS = {'jit': sharding.JitOverMesh, 'pmap': sharding.PmapOverMesh}


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(
    values,
    base_features=32,
    batch_size=64,
    rounds=7,
    steps=10,
  )
  flags.DEFINE_enum(
    'parallelism',
    'jit',
    tuple(_KINDS),
    'How the step is split over devices.',
    flag_values=values,
  )


def build(
  num_devices: int, parallelism: str, base_features: int, batch_size: int
) -> turns.Run:
  """Builds the step on `num_devices` devices with a global batch size."""
  memory.keep_freed()
  # For virtual CPU devices; takes effect before JAX first lists its devices.
  jax.config.update('jax_num_cpu_devices', num_devices)
  devices = jax.devices()
  if len(devices) < num_devices:
    raise ValueError(f'found only {len(devices)} devices')
  config = gan_config.default().unlock()
  config.model.base_features = base_features
  mesh = sharding.create_mesh(devices[:num_devices])
  parallel = _KINDS[parallelism](mesh)
  gan = create_gan(config, _IMAGE_SHAPE, axis=parallel.axis)
  root = prng.root_key(0)
  state = parallel.spread(
    jax.jit(functools.partial(gan_state.init_state, gan, root))()
  )
  train_step = functools.partial(steps.train_step, gan)
  step = loop.compile_step(train_step, parallel, config, is_convolutional=True)
  batch = np.random.default_rng(0).integers(
    0, 256, (1, 1, batch_size, *_IMAGE_SHAPE), np.uint8
  )
  batch = parallel.put_batches(batch)

  return turns.repeating(step, state, batch, root)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  builds = {
    str(num): functools.partial(
      build,
      num,
      values.parallelism,
      values.base_features,
      values.batch_size,
    )
    for num in _NUM_DEVICES
  }
  shares = {
    f'{num} in parts': functools.partial(
      build, 1, 'jit', values.base_features, values.batch_size // num
    )
    for num in _NUM_DEVICES
  }
  seconds = turns.time_in_turns(builds | shares, values.rounds, values.steps)
  for num in _NUM_DEVICES:
    name = f'{num} in parts'
    seconds[name] = [num * time for time in seconds[name]]
  rows = []
  for num in (n for n in _NUM_DEVICES if str(n) in seconds):
    speedup, low, high = turns.ratio(seconds, '1', str(num))
    in_parts, *_ = turns.ratio(seconds, '1', f'{num} in parts')
    rate = values.batch_size / np.median(seconds[str(num)])
    rows.append(
      [
        str(num),
        f'{rate:,.0f}',
        f'{speedup:.2f}',
        f'{low:.2f} to {high:.2f}',
        f'{in_parts:.2f}',
      ]
    )
  print(f'{values.parallelism}, {turns.machine()}\n')
  header = (
    'devices',
    'images/s',
    'speedup',
    'quartiles',
    'one device, in parts',
  )
  print(turns.markdown(header, rows))


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
