"""Times the steps of several seeds at once against those of one.

  python -m benchmarks.seeds [--config=configs/ring.py] [--seeds=10]

Each number of seeds has a process of its own and takes its turn in every round.
Prints a Markdown table; "single runs" is how many runs of one seed take as
long.
"""

from collections.abc import Sequence
import functools
import sys

from absl import flags
import jax
import numpy as np

from benchmarks import turns
from common_flax import commands
from common_flax import compiler
from common_flax import config as config_lib
from common_flax import memory
from common_flax import seeds as seeds_lib
from common_flax import sharding
from common_flax.config import UserError
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.train import FAMILY

_STEPS_PER_CALL = 50


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'config', 'configs/ring.py', 'A recipe of points.', flag_values=values
  )
  commands.define_integers(values, seeds=10, rounds=7, steps=500)


def build(spec: str, num_seeds: int) -> turns.Run:
  """The steps of some seeds of a recipe, on points of no meaning."""
  memory.keep_freed()
  config = config_lib.load(spec)
  FAMILY.check_config(config)
  gan = gan_state.create_gan(config, (2,))
  seeds = seeds_lib.create(config.seed, num_seeds)
  parallel = seeds.parallel('jit')
  init = functools.partial(gan_state.init_state, gan)
  state = parallel.spread(jax.jit(lambda: seeds.init(init))())
  step = parallel.compile(
    sharding.in_one_call(
      seeds.step(functools.partial(steps.train_step, gan)),
      _STEPS_PER_CALL,
      unroll_on_cpu=False,
    ),
    compiler.for_dense_networks(),
  )
  axes = seeds.batch_shape(config.discriminator_steps, config.batch_size)
  points = np.random.default_rng(0).normal(size=(_STEPS_PER_CALL, *axes, 2))
  batches = parallel.put_batches(points.astype(np.float32))
  return turns.repeating(
    step, state, batches, seeds.roots(), steps_per_call=_STEPS_PER_CALL
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.steps % _STEPS_PER_CALL:
    raise UserError(
      f'--steps={values.steps}: must be a multiple of {_STEPS_PER_CALL}'
    )
  builds = {
    str(num): functools.partial(build, values.config, num)
    for num in (1, values.seeds)
  }
  seconds = turns.time_in_turns(builds, values.rounds, values.steps)
  rows = []
  for name, times in seconds.items():
    cost, low, high = turns.ratio(seconds, name, '1')
    milliseconds = 1000 * np.median(times)
    rows.append(
      [name, f'{milliseconds:.2f}', f'{cost:.2f}', f'{low:.2f} to {high:.2f}']
    )
  print(f'{values.config}, {turns.machine()}\n')
  print(turns.markdown(('seeds', 'ms', 'single runs', 'quartiles'), rows))


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
