"""Times what the training loop costs beside the train step.

  python -m benchmarks.overhead [--steps=4000]

Trains the recipe of the digits as its users do, with a log line every 100
steps, samples every 500 and a checkpoint every 1,000. Every 20 steps the loop
is halted for a few steps that are taken alone, so that a busy machine troubles
both alike; what steps take more in the loop than alone is the loop's. After
each change the first step does not count: it finds its numbers out of reach of
the caches.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import pathlib
import runpy
import sys
import tempfile
import time
from unittest import mock

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import turns
from common_flax import commands
from common_flax import sharding
from common_flax.compiler import Options
from common_flax.config import UserError
from common_flax.training import Training
from gan_flax import train as train_lib

_LOG, _SAMPLE, _CHECKPOINT = 100, 500, 1000
_BLOCK = 20  # steps of the loop, those that log in their middle; the first one
_ALONE = 5  # of them, and one before those taken alone, does not count


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_integer(
    'steps', 4000, 'A multiple of 1,000.', 1000, flag_values=values
  )


class _Halting(sharding.JitOverMesh):
  """Times blocks of the loop's steps, and between them steps alone."""

  def __init__(self, mesh: jax.sharding.Mesh):
    super().__init__(mesh)
    self.blocks = []  # seconds of each block
    self.alone = []  # seconds of a step, before the first block and after each
    self._num_steps = 0
    self._began = 0.0

  def compile(self, step: sharding.Step, options: Options | None = None):
    compiled = super().compile(step, options)

    def take_alone(state, batches, root) -> float:
      state = jax.tree.map(jnp.copy, state)
      state, _ = jax.block_until_ready(compiled(state, batches, root))
      start = time.perf_counter()
      for _ in range(_ALONE):
        state, _ = compiled(state, batches, root)
      jax.block_until_ready(state)
      return (time.perf_counter() - start) / _ALONE

    def halting(state, batches, root):
      if self._num_steps % _BLOCK == _BLOCK // 2:
        jax.block_until_ready(state)
        if self.alone:
          self.blocks.append(time.perf_counter() - self._began)
        self.alone.append(take_alone(state, batches, root))
        taken = jax.block_until_ready(compiled(state, batches, root))
        self._began = time.perf_counter()
      else:
        taken = compiled(state, batches, root)
      self._num_steps += 1
      return taken

    return halting


@contextlib.contextmanager
def _timed_saves() -> Iterator[list[float]]:
  """Seconds that each checkpoint keeps the loop waiting."""
  seconds = []
  save = Training._save

  def timed(training):
    jax.block_until_ready(training._state)
    start = time.perf_counter()
    save(training)
    seconds.append(time.perf_counter() - start)

  with mock.patch.object(Training, '_save', timed):
    yield seconds


def _train(num_steps: int) -> tuple[_Halting, list[float]]:
  """Trains the digits; returns what was timed, and the stalls of saving."""
  recipe = pathlib.Path(__file__).parents[1] / 'configs' / 'dcgan.py'
  config = runpy.run_path(str(recipe))['get_config']().unlock()
  config.num_steps = num_steps
  config.log_every_steps = _LOG
  config.sample_every_steps = _SAMPLE
  config.checkpoint_every_steps = _CHECKPOINT
  parallel = _Halting(sharding.create_mesh())
  with (
    tempfile.TemporaryDirectory() as workdir,
    mock.patch.object(sharding, 'create', lambda *unused: parallel),
    open(os.devnull, 'w') as nowhere,
    contextlib.redirect_stdout(nowhere),
    _timed_saves() as saves,
  ):
    train_lib.train(config, workdir)
  return parallel, saves


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.steps % _CHECKPOINT:
    raise UserError(f'--steps={values.steps}: take a multiple of {_CHECKPOINT}')
  # Half a block more, so that the last checkpoint lies within one.
  parallel, saves = _train(values.steps + _BLOCK // 2 + 1)
  blocks, alone = np.array(parallel.blocks), np.array(parallel.alone)
  num_steps = _BLOCK - 1
  as_alone = num_steps * (alone[:-1] + alone[1:]) / 2
  more = blocks - as_alone
  middles = _BLOCK * np.arange(1, 1 + len(blocks))
  does = {
    'nothing': middles % _LOG != 0,
    'a log line': (middles % _LOG == 0) & (middles % _SAMPLE != 0),
    'a log line and samples': (middles % _SAMPLE == 0)
    & (middles % _CHECKPOINT != 0),
    'a log line, samples and a checkpoint': middles % _CHECKPOINT == 0,
  }
  medians = {name: np.median(more[at]) for name, at in does.items()}
  recurring = sum(medians[name] * np.sum(at) for name, at in does.items())
  step = 1000 * np.median(alone)
  rows = [
    [f'{num_steps} steps with {name}', f'{1000 * median:.1f}']
    for name, median in medians.items()
  ]
  rows.append(['stall of a checkpoint', f'{1000 * np.median(saves):.1f}'])
  print(f'{values.steps} steps of the digits, {turns.machine()}\n')
  print(turns.markdown(('', 'ms more than alone, median'), rows))
  print(
    f'\nA step alone takes {step:.1f} ms. The loop costs '
    f'{100 * more.sum() / as_alone.sum():.1f} % over {as_alone.sum():.0f} s of '
    f'such steps; {100 * recurring / as_alone.sum():.1f} % by the medians, '
    'which leave out what is compiled once.'
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
