"""Builds the documentation site and serves it on this machine.

  pip install -e '.[docs]'
  python -m docs

builds the site in `build/site` and serves it at http://127.0.0.1:8000 until
Ctrl-C. Warnings are errors. Notebooks run once, and again when their text
changes, a few minutes in all; `--no-notebooks` shows them without results.
"""

import argparse
import functools
import http.server
import importlib.util
import os
import pathlib
import sys

from docs.site import links
from docs.site import sources


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog='python -m docs',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    '--output', default='build/site', type=pathlib.Path, metavar='FOLDER'
  )
  parser.add_argument('--port', default=8000, type=int)
  parser.add_argument(
    '--build-only', action='store_true', help='do not serve the site'
  )
  parser.add_argument(
    '--no-notebooks', action='store_true', help='do not run the notebooks'
  )
  return parser.parse_args(argv)


def _build(output: pathlib.Path, *, runs_notebooks: bool) -> int:
  """Builds the site; returns an exit status."""
  from sphinx.cmd import build

  output = output.resolve()
  work = output.with_name(f'{output.name}_work')
  sources.Stage(work / 'sources').fill()
  os.environ['PYTHONPATH'] = str(sources.ROOT)  # of the notebooks' kernels
  status = build.main(
    [
      '-c',
      str(pathlib.Path(__file__).parent / 'site'),
      '-d',
      str(work / 'doctrees'),
      '-D',
      f'nb_execution_mode={"cache" if runs_notebooks else "off"}',
      '-D',
      f'nb_execution_cache_path={work / "notebooks"}',
      '--fail-on-warning',
      '--keep-going',
      '--quiet',
      str(work / 'sources'),
      str(output),
    ]
  )
  sources.copy_apps(output)
  broken = list(links.broken(output))
  for line in broken:
    print(f'error: {line}', file=sys.stderr)
  return status or int(bool(broken))


def main(argv: list[str]) -> int:
  """Runs the command; returns its exit status."""
  options = _parse(argv)
  if not all(map(importlib.util.find_spec, ('sphinx', 'myst_nb', 'furo'))):
    print("error: run `pip install -e '.[docs]'` first", file=sys.stderr)
    return 2
  status = _build(options.output, runs_notebooks=not options.no_notebooks)
  if status or options.build_only:
    return status
  handler = functools.partial(
    http.server.SimpleHTTPRequestHandler, directory=options.output
  )
  try:
    address = ('127.0.0.1', options.port)
    server = http.server.ThreadingHTTPServer(address, handler)
  except (OSError, OverflowError) as error:
    print(f'error: --port={options.port}: {error}', file=sys.stderr)
    return 2
  with server:
    print(f'http://127.0.0.1:{server.server_port}  (Ctrl-C ends it)')
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      print()
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
