"""Times a DCGAN's train step on 1, 2, 4 and 8 devices.

  python -m benchmarks.scaling [--batch_size=64] [--parallelism=jit]

The global batch stays the same. Where there is one CPU, its devices are virtual
ones that share its cores: the table then says what splitting costs, not what it
wins. "In parts" is one device that takes the batch's shares one after the
other, and talks to nobody: what it loses comes of small shares and of what
every device does again, the optimisers and all else that is of the parameters.
"""

from collections.abc import Sequence
import functools
import sys

from absl import flags
import jax
import numpy as np

from benchmarks import turns
from common_flax import commands
from common_flax import memory
from common_flax import prng
from common_flax import sharding
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps

_NUM_DEVICES = (1, 2, 4, 8)
_IMAGE_SHAPE = (32, 32, 1)


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(
    values,
    base_features=32,
    batch_size=64,
    rounds=7,
    steps=10,
  )
  flags.DEFINE_enum(
    'parallelism', 'jit', ('jit', 'pmap'), '', flag_values=values
  )


def build(
  num_devices: int, parallelism: str, base_features: int, batch_size: int
) -> turns.Run:
  """The step on some devices, or on one with a share of its batch."""
  memory.keep_freed()
  # Virtual ones, of a CPU; read when JAX first looks for devices.
  jax.config.update('jax_num_cpu_devices', num_devices)
  devices = jax.devices()
  if len(devices) < num_devices:
    raise ValueError(f'there are {len(devices)} devices')
  config = gan_config.default().unlock()
  config.model.base_features = base_features
  gan = gan_state.create_gan(config, _IMAGE_SHAPE)
  root = prng.root_key(0)
  mesh = sharding.create_mesh(devices[:num_devices])
  parallel = sharding.create(parallelism, mesh)
  state = parallel.spread(
    jax.jit(functools.partial(gan_state.init_state, gan, root))()
  )
  train_step = functools.partial(steps.train_step, gan)
  step = parallel.compile(sharding.in_one_call(train_step, 1))
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
    'times as fast as one',
    'quartiles',
    'one device, in parts',
  )
  print(turns.markdown(header, rows))


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
