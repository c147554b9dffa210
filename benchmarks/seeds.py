"""Times a step of several seeds at once against a step of one seed.

  python -m benchmarks.seeds [--config=configs/ring.py] [--seeds=10]

Each number of seeds runs in its own process, and the processes take turns.
Prints a Markdown table; "single runs" is the time in units of a run with one
seed.
"""

from collections.abc import Sequence
import functools
import sys

from absl import flags
import jax
import numpy as np

from benchmarks import turns
from common_flax import config as config_lib
from common_flax.cli import commands
from common_flax.cpu import memory
from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.training import loop
from common_flax.training import seeds as seeds_lib
from gan_flax import config as gan_config
from gan_flax import state as gan_state
from gan_flax import steps
from gan_flax.gan import create_gan

_STEPS_PER_CALL = 50


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_string(
    'config',
    'configs/ring.py',
    'Recipe for points in the plane.',
    flag_values=values,
  )
  commands.define_integers(values, seeds=10, rounds=7, steps=500)


def build(spec: str, num_seeds: int) -> turns.Run:
  """Builds the step of a recipe for several seeds, on random points."""
  memory.keep_freed()
  config = config_lib.load(spec)
  gan_config.check(config)
  config.steps_per_call = _STEPS_PER_CALL
  gan = create_gan(config, (2,))
  functions = seeds_lib.vectorise(
    seeds_lib.Functions(
      init=functools.partial(gan_state.init_state, gan),
      step=functools.partial(steps.train_step, gan),
      batches=lambda *unused: iter(()),
    ),
    num_seeds,
  )
  roots = seeds_lib.root_keys(config.seed, num_seeds)
  parallel = sharding.create('jit', num_seeds)
  state = parallel.spread(jax.jit(functions.init)(roots))
  step = loop.compile_step(
    functions.step, parallel, config, is_convolutional=False
  )
  axes = (_STEPS_PER_CALL, config.discriminator_steps)
  axes += (num_seeds,) if num_seeds > 1 else ()
  points = np.random.default_rng(0).normal(size=(*axes, config.batch_size, 2))
  batches = parallel.put_batches(points.astype(np.float32))
  return turns.repeating(
    step, state, batches, roots, steps_per_call=_STEPS_PER_CALL
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.steps % _STEPS_PER_CALL:
    raise UserError(
      f'--steps={values.steps}: use a multiple of {_STEPS_PER_CALL}'
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
