"""Writes a report of one or more runs: one HTML file that needs no network.

  python -m common_flax.report --workdir=DIR [--workdir=DIR ...]
      --output=FILE.html

What was trained on what, samples over training, curves to zoom into, scores
beside those of real examples, warnings, the config and how to reproduce it.
Several runs are shown side by side, with the config fields that differ. A run
may still be training; what it lacks is left out. Every finished run has its own
report in its workdir.
"""

from collections.abc import Sequence
import os
import sys

from absl import flags
from etils import epath

from common_flax import config as config_lib
from common_flax.cli import commands
from common_flax.cli import outputs
from common_flax.errors import UserError
from common_flax.report import page
from common_flax.report import runs as runs_lib

_MAX_RUNS = 8  # whose curves can be told apart


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'workdir',
    [],
    'Folder of a run; repeat it to compare runs.',
    flag_values=values,
  )
  flags.DEFINE_string('output', None, 'FILE.html to write.', flag_values=values)


def _workdirs(values: flags.FlagValues) -> list[epath.Path]:
  """The folders that --workdir names.

  Raises:
    UserError: naming one that is missing or given twice.
  """
  found: list[epath.Path] = []
  for given in values.workdir:
    path = epath.Path(os.path.expanduser(given))
    if not given.strip():
      raise UserError('--workdir: is empty; give the folder of a run')
    config_lib.require_reachable('--workdir', path)
    if not path.is_dir():
      raise UserError(f'--workdir={given}: there is no such folder')
    if path in found:
      raise UserError(f'--workdir={given}: is given twice')
    found.append(path)
  if len(found) > _MAX_RUNS:
    raise UserError(
      f'--workdir: given {len(found)} times; compare at most {_MAX_RUNS} runs'
    )
  return found


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  commands.parse(values, arguments)
  commands.require_flags(values, 'workdir', 'output')
  outputs.check(values.output, [outputs.PAGE])
  runs = [runs_lib.read(workdir) for workdir in _workdirs(values)]
  text, faults = page.render(runs)
  data = text.encode()
  outputs.write_bytes(values.output, data)
  for fault in faults:
    print(f'{fault}; left out of the report.')
  size = len(data) / 1e6
  print(f'Report of {_named(runs)}: {values.output} ({size:.1f} MB)')


def _named(runs: Sequence[runs_lib.Run]) -> str:
  return runs[0].name if len(runs) == 1 else f'{len(runs)} runs'


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
