"""Times the training loop's overhead over the train step.

  python -m benchmarks.overhead [--steps=4000]

Trains the digits recipe with a log line every 100 steps, samples every 500 and
a checkpoint every 1,000. Every 20 steps the loop pauses for a few bare steps,
so other load on the machine slows both alike. The overhead is the time of a
step in the loop minus the time of a bare step. The first step after each switch
does not count, because its data are no longer in the caches.
"""

from collections.abc import Sequence
import contextlib
import functools
import os
import pathlib
import runpy
import sys
import tempfile
import time
from typing import Any
from unittest import mock

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from benchmarks import turns
from common_flax import data
from common_flax.cli import commands
from common_flax.distributed import sharding
from common_flax.errors import UserError
from common_flax.training import loop
from common_flax.training.hooks import Checkpoints
from common_flax.training.loop import Moment
from gan_flax import steps
from gan_flax import train as train_lib
from gan_flax.gan import create_gan

_LOG, _SAMPLE, _CHECKPOINT = 100, 500, 1000
# Steps of the loop in a block. Logging falls in the middle of a block, and the
# first step of each block does not count.
_BLOCK = 20
_ALONE = 5  # bare steps between blocks, after one that does not count


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_integer(
    'steps', 4000, 'Steps, a multiple of 1,000.', 1000, flag_values=values
  )


class _Halting:
  """A hook that times blocks of the loop's steps, and bare steps between."""

  def __init__(self, config: ConfigDict):
    """Compiles the step as the loop does.

    Args:
      config: of the run.
    """
    self.blocks = []  # seconds per block
    self.alone = []  # seconds per bare step, before and after each block
    source = data.load(config.dataset, config.dataset.split)
    parallel = sharding.create('jit')
    gan = create_gan(config, source.example_shape, axis=parallel.axis)
    train_step = functools.partial(steps.train_step, gan)
    self._step = loop.compile_step(
      train_step, parallel, config, is_convolutional=True
    )
    images = data.first_examples(source, config.batch_size)
    self._batches = parallel.put_batches(images[None, None])
    self._began = 0.0

  def __call__(self, now: Moment) -> None:
    place = now.step % _BLOCK
    if now.is_start or place not in (_BLOCK // 2, _BLOCK // 2 + 1):
      return
    now.wait()
    if place == _BLOCK // 2 + 1:  # the first step of a block does not count
      self._began = time.perf_counter()
      return
    if self.alone:
      self.blocks.append(time.perf_counter() - self._began)
    self.alone.append(self._take_alone(now))

  def _take_alone(self, now: Moment) -> float:
    def take(state):
      return self._step(state, self._batches, now.run.root)[0]

    state = jax.tree.map(jnp.copy, now.global_state)
    state = jax.block_until_ready(take(state))
    start = time.perf_counter()
    for _ in range(_ALONE):
      state = take(state)
    jax.block_until_ready(state)
    return (time.perf_counter() - start) / _ALONE


class _TimedCheckpoints(Checkpoints):
  """Records the seconds for which each checkpoint blocks the loop."""

  def __init__(self, seconds: list[float], *arguments: Any):
    super().__init__(*arguments)
    self._seconds = seconds

  def __call__(self, now: Moment) -> None:
    saves = now.is_multiple_of(_CHECKPOINT)
    if saves:
      now.wait()
    start = time.perf_counter()
    super().__call__(now)
    if saves:
      self._seconds.append(time.perf_counter() - start)


def _train(num_steps: int) -> tuple[_Halting, list[float]]:
  """Trains the digits; returns the timings and the seconds of each save."""
  recipe = pathlib.Path(__file__).parents[1] / 'configs' / 'dcgan.py'
  config = runpy.run_path(str(recipe))['get_config']().unlock()
  config.num_steps = num_steps
  config.log_every_steps = _LOG
  config.sample_every_steps = _SAMPLE
  config.checkpoint_every_steps = _CHECKPOINT
  halting, saves = _Halting(config), []
  checkpoints = functools.partial(_TimedCheckpoints, saves)
  with (
    tempfile.TemporaryDirectory() as workdir,
    mock.patch.object(train_lib, 'Checkpoints', checkpoints),
    open(os.devnull, 'w') as nowhere,
    contextlib.redirect_stdout(nowhere),
  ):
    train_lib.train(config, workdir, hooks=[halting])
  return halting, saves


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.steps % _CHECKPOINT:
    raise UserError(f'--steps={values.steps}: take a multiple of {_CHECKPOINT}')
  # Half a block more, so that the last checkpoint lies within one.
  halting, saves = _train(values.steps + _BLOCK // 2)
  blocks, alone = np.array(halting.blocks), np.array(halting.alone)
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
  rows.append(
    ['time blocked by a checkpoint', f'{1000 * np.median(saves):.1f}']
  )
  print(f'{values.steps} steps of the digits, {turns.machine()}\n')
  print(turns.markdown(('', 'overhead in ms, median'), rows))
  print(
    f'\nA bare step takes {step:.1f} ms. The overhead of the loop is '
    f'{100 * more.sum() / as_alone.sum():.1f} % over {as_alone.sum():.0f} s of '
    f'bare steps; {100 * recurring / as_alone.sum():.1f} % by the medians, '
    'which exclude compilation.'
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
