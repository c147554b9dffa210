"""Explores trained runs in a browser on this machine.

  python -m common_flax.explore --workdir=DIR [--workdir=DIR2 ...]
      [--port=PORT] [--host=127.0.0.1] [--nobrowser]

Prints the address of the page, and opens it unless --nobrowser. Nobody else can
reach it, unless --host says otherwise. Ctrl-C ends it.
"""

from collections.abc import Sequence
import sys

from absl import flags

from common_flax.cli import scripts
from common_flax.cpu import startup
from common_flax.errors import UserError

_LOCAL = '127.0.0.1'


def _define_flags(values: flags.FlagValues) -> None:
  flags.DEFINE_multi_string(
    'workdir',
    None,
    'Folder of a trained run; may be given again for more runs.',
    flag_values=values,
  )
  flags.DEFINE_integer(
    'port',
    0,
    'Port of the page; 0 for a free one.',
    0,
    65535,
    flag_values=values,
  )
  flags.DEFINE_string(
    'host',
    _LOCAL,
    'Address to listen on; any but the default lets others in.',
    flag_values=values,
  )
  flags.DEFINE_boolean(
    'browser', True, 'Whether to open the page.', flag_values=values
  )


def _main(values: flags.FlagValues, arguments: list[str]) -> None:
  from common_flax.cli import commands
  from common_flax.explore import runs as runs_lib

  commands.parse(
    values,
    ['--nobrowser' if a == '--no-browser' else a for a in arguments],
  )
  if not startup.is_installed('nicegui'):
    raise UserError(
      "the explorer's pages are not installed; pip install -e '.[explore]' in "
      'the clone, or pip install nicegui'
    )
  runs = runs_lib.find(values.workdir)
  with startup.importing():
    from common_flax.explore import server

    for run in runs:
      run.page()  # imports what it needs
  port = server.free_port(values.host, values.port)
  if not server.is_local(values.host):
    print(
      f'--host={values.host}: others can reach this page, and nothing asks who '
      'they are.'
    )
  server.serve(runs, values.host, port, opens=values.browser)


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit status."""
  if scripts.answered(argv[1:]):
    return 0
  with startup.importing():  # JAX must not be imported before this
    from common_flax.cli import commands
  return commands.run(_main, argv, _define_flags, __doc__)


if __name__ == '__main__':
  sys.exit(main(sys.argv))
