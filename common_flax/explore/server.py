"""Serves the explorer's pages on this machine."""

import asyncio
from collections.abc import Sequence
import contextlib
import ipaddress
import logging
import socket
import sys

from nicegui import app
from nicegui import ui
from starlette.middleware.trustedhost import TrustedHostMiddleware

from common_flax import files
from common_flax.errors import UserError
from common_flax.explore import widgets
from common_flax.explore.runs import Run

LOCAL = '127.0.0.1'
_CONNECTION_SECONDS = 60


def is_local(host: str) -> bool:
  """Whether only this machine can reach a host."""
  if host == 'localhost':
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def free_port(host: str, port: int) -> int:
  """Checks that a port is free; 0 means any free one.

  Raises:
    UserError: if it is taken, or the host is none of this machine's.
  """
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  with socket.socket(family, socket.SOCK_STREAM) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      server.bind((host, port))
    except socket.gaierror as error:
      raise UserError(
        f'--host={host}: is no address of this machine'
      ) from error
    except (OSError, OverflowError) as error:
      if not port:
        raise UserError(
          f'--host={host}: is no address of this machine'
        ) from error
      raise UserError(
        f'--port={port}: cannot be used ({error.strerror or error}); give '
        'another, or none for a free one'
      ) from error
    return server.getsockname()[1]


def serve(runs: Sequence[Run], host: str, port: int, *, opens: bool) -> None:
  """Serves until it is interrupted.

  Args:
    runs: what is shown; a browser names them by number alone.
    host: address to listen on.
    port: a free port.
    opens: whether to open the browser.
  """
  name = f'[{host}]' if ':' in host else host
  url = f'http://{name}:{port}'

  @app.on_startup
  async def load() -> None:
    # The first page is asked for next. If it fails, the page says so.
    with contextlib.suppress(Exception):
      await asyncio.to_thread(lambda: runs[0].load(runs[0].steps()[0]))

  @app.on_startup
  async def tell() -> None:
    await _listening(host, port)
    print(f'Exploring {", ".join(r.name for r in runs)} at {url}', flush=True)

  if is_local(host):
    # A page elsewhere that a browser shows must not reach this one by giving
    # its own name to this address.
    app.add_middleware(
      TrustedHostMiddleware, allowed_hosts=[LOCAL, 'localhost', '[::1]', host]
    )

  # What goes wrong is one line here, and a sentence on the page.
  logging.getLogger('nicegui').setLevel(logging.CRITICAL)

  @app.on_exception
  def say(error: Exception) -> None:
    text = files.one_line(str(error)) or type(error).__name__
    print(f'error: {text}', file=sys.stderr)

  @ui.page('/')
  async def page(run: str = '0', step: str = '') -> None:
    await _build(runs, run, step)

  ui.run(
    host=host,
    port=port,
    title='Explorer',
    show=opens,
    reload=False,
    show_welcome_message=False,
    favicon='🔍',
    reconnect_timeout=10,
    message_history_length=100,
    uvicorn_logging_level='critical',
  )


async def _listening(host: str, port: int) -> None:
  """Waits until the server accepts connections."""
  while True:
    try:
      _, writer = await asyncio.open_connection(host, port)
    except OSError:
      await asyncio.sleep(0.02)
    else:
      writer.close()
      return


async def _build(runs: Sequence[Run], run: str, step: str) -> None:
  """Builds the page of one visitor."""
  ui.add_css(widgets.STYLE)
  number = int(run) if run.isdecimal() and len(run) < 9 else -1
  if not 0 <= number < len(runs):
    ui.label('There is no such run; open the first one.')
    ui.link('Open', '/')
    return
  chosen, client = runs[number], ui.context.client
  with ui.element('main').classes('explore-page'):
    head = ui.row().classes('w-full items-center q-mb-sm')
    body = ui.column().classes('w-full')
  with body:
    ui.label('Loading …').props('role=status')
  try:
    # What follows may take seconds, and the browser shows the page meanwhile.
    await client.connected(timeout=_CONNECTION_SECONDS)
  except TimeoutError:
    return  # the tab was closed
  try:
    steps = await asyncio.to_thread(chosen.steps)
    wanted = int(step) if step.isdecimal() and len(step) < 19 else steps[0]
    model = await asyncio.to_thread(chosen.load, wanted)
    if client.is_deleted:
      return
    with head:
      _header(runs, number, steps, wanted)
    body.clear()
    with body:
      await chosen.page().build(chosen.workdir, model, steps)
  except Exception as error:  # the page says it, whatever it is
    if not client.is_deleted:
      _show_error(body, number, error)


def _show_error(body: ui.element, number: int, error: Exception) -> None:
  """Replaces a page by what went wrong."""
  body.clear()
  with body:
    text = files.one_line(str(error)) or type(error).__name__
    ui.label(f'This run cannot be shown: {text}').props('role=alert')
    ui.link('Try again with the newest checkpoint', f'/?run={number}')


def _header(
  runs: Sequence[Run], number: int, steps: Sequence[int], step: int
) -> None:
  """The choice of the run and of its checkpoint."""
  ui.label('Explorer').classes('text-h6').props('role=heading aria-level=1')
  if len(runs) > 1:
    ui.select(
      {i: run.name for i, run in enumerate(runs)},
      value=number,
      label='Run',
      on_change=lambda event: ui.navigate.to(f'/?run={event.value}'),
    ).props('dense outlined aria-label="Run"')
  else:
    ui.label(runs[0].name)
  choices = {each: f'step {each:,}' for each in steps}
  if step in choices:
    ui.select(
      choices,
      value=step,
      label='Checkpoint',
      on_change=lambda event: ui.navigate.to(
        f'/?run={number}&step={event.value}'
      ),
    ).props('dense outlined aria-label="Checkpoint" style="min-width: 9em"')
