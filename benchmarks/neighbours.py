"""Times precision, recall, density and coverage on many features.

  python -m benchmarks.neighbours [--num=50000] [--size=64]

The features are Gaussian, equally many for real and generated images. Prints
the metrics, the time and the peak memory of the process.
"""

from collections.abc import Sequence
import resource
import sys
import time

from absl import flags
import numpy as np

from common_flax.cli import commands
from common_flax.evaluation import protocol as evaluation
from common_flax.metrics import neighbours


def _define_flags(values: flags.FlagValues) -> None:
  commands.define_integers(values, num=50_000, size=64)


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  random = np.random.default_rng(0)
  shape = (2, values.num, values.size)
  real, generated = random.standard_normal(shape, np.float32)
  start = time.monotonic()
  found = neighbours.manifold_metrics(
    real, generated, num_neighbours=evaluation.DEFAULT_NEIGHBOURS
  )
  seconds = time.monotonic() - start
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(', '.join(f'{k} {v:.3f}' for k, v in found._asdict().items()))
  print(
    f'{values.num:,} real and {values.num:,} generated features of '
    f'{values.size} dimensions: {seconds:.1f} s, peak memory {memory:.2f} GiB'
  )


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
