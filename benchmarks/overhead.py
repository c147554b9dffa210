"""Times what the training loop costs beside the train step.

  python -m benchmarks.overhead [--steps=2000]

Trains the recipe of the digits with a log line every 100 steps, samples every
500 and a checkpoint every 1,000, and waits for the end of each step. What lies
between the end of a step and the start of the next is the loop's, more than
without that wait, when the loop works while the devices do. What its threads
take from the steps themselves is seen from steps that are timed alone, some of
them half-way between log lines.
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
_ALONE = 5  # steps, each 100


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_integer(
    'steps', 2000, 'A multiple of 1,000.', 1000, flag_values=values
  )


class _Clocked(sharding.JitOverMesh):
  """Notes when each step starts and ends, and times some alone in between."""

  def __init__(self, mesh: jax.sharding.Mesh):
    super().__init__(mesh)
    self.starts, self.ends = [], []
    self.alone = []  # seconds of steps that do not count
    self._paused = 0.0  # seconds that they took, which do not count either

  def _now(self) -> float:
    return time.perf_counter() - self._paused

  def compile(self, step: sharding.Step, options: Options | None = None):
    compiled = super().compile(step, options)

    def time_alone(state, batches, root):
      began = time.perf_counter()
      state = jax.tree.map(jnp.copy, state)
      for i in range(1 + _ALONE):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(compiled(state, batches, root))
        if i:  # after the copy's
          self.alone.append(time.perf_counter() - start)
      self._paused += time.perf_counter() - began

    def clocked(state, batches, root):
      if len(self.starts) % _LOG == _LOG // 2:  # with nothing else to do
        time_alone(state, batches, root)
      self.starts.append(self._now())
      state, metrics = jax.block_until_ready(compiled(state, batches, root))
      self.ends.append(self._now())
      return state, metrics

    return clocked


@contextlib.contextmanager
def _timed_saves() -> Iterator[list[float]]:
  """Seconds that each checkpoint keeps the loop waiting."""
  seconds = []
  save = Training._save

  def timed(training):
    start = time.perf_counter()
    save(training)
    seconds.append(time.perf_counter() - start)

  with mock.patch.object(Training, '_save', timed):
    yield seconds


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  if values.steps % _CHECKPOINT:
    raise UserError(f'--steps={values.steps}: take a multiple of {_CHECKPOINT}')
  recipe = pathlib.Path(__file__).parents[1] / 'configs' / 'dcgan.py'
  config = runpy.run_path(str(recipe))['get_config']().unlock()
  config.num_steps = values.steps
  config.log_every_steps = _LOG
  config.sample_every_steps = _SAMPLE
  config.checkpoint_every_steps = _CHECKPOINT
  parallel = _Clocked(sharding.create_mesh())
  with (
    tempfile.TemporaryDirectory() as workdir,
    mock.patch.object(sharding, 'create', lambda *unused: parallel),
    open(os.devnull, 'w') as nowhere,
    contextlib.redirect_stdout(nowhere),
    _timed_saves() as saves,
  ):
    train_lib.train(config, workdir)
  starts, ends = np.array(parallel.starts), np.array(parallel.ends)
  # The first gap is the start's, the last one the end's.
  gaps = starts[2:] - ends[1:-1]
  steps = np.arange(2, values.steps)
  total = starts[-1] - starts[1]
  kinds = {
    'nothing': steps % _LOG != 0,
    'a log line': (steps % _LOG == 0) & (steps % _SAMPLE != 0),
    'a log line and samples': (steps % _SAMPLE == 0)
    & (steps % _CHECKPOINT != 0),
    'a log line, samples and a checkpoint': steps % _CHECKPOINT == 0,
  }
  medians = {kind: np.median(gaps[at]) for kind, at in kinds.items() if any(at)}
  # What the first log line and the first samples need is compiled then.
  once = sum(
    gaps[steps == first].sum() - medians[kind]
    for first, kind in (
      (_LOG, 'a log line'),
      (_SAMPLE, 'a log line and samples'),
    )
  )
  rows = [
    [f'gap after a step with {kind}', f'{1000 * median:.1f}']
    for kind, median in medians.items()
  ]
  rows += [
    ['stall of a checkpoint', f'{1000 * np.median(saves):.1f}'],
    ['step within the loop', f'{1000 * np.median(ends - starts):.1f}'],
    ['step alone', f'{1000 * np.median(parallel.alone):.1f}'],
  ]
  print(f'{values.steps} steps of the digits, {turns.machine()}\n')
  print(turns.markdown(('', 'median ms'), rows))
  as_many = np.mean(parallel.alone) * len(gaps)
  print(
    f'\nThe gaps are {100 * gaps.sum() / total:.2f} % of {total:.0f} s, '
    f'{100 * once / total:.2f} % what the first log line and the first samples '
    f'take once. All together took {100 * (total / as_many - 1):.1f} % longer '
    'than as many steps alone.'
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
