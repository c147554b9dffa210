"""The page in docs/browser draws what the run draws, and stays on its host."""

import functools
import http.server
import json
import shutil
import threading

from conftest import ROOT
import numpy as np
import pytest

CHROMIUM = shutil.which('chromium')
FLAGS = (
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync '
  '--disable-background-networking --disable-component-update'
).split()
PAGE = ROOT / 'docs/browser'
MAX_BYTES = 4_300_000  # of everything that a visit loads


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


@pytest.fixture(scope='module')
def address():
  handler = functools.partial(_Quiet, directory=ROOT / 'docs')
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()
    thread.join()


def test_the_page_is_small():
  files = [file for file in PAGE.iterdir() if file.name != 'make.py']
  assert sum(file.stat().st_size for file in files) < MAX_BYTES


@pytest.mark.skipif(not CHROMIUM, reason='needs chromium')
def test_a_browser_draws_what_the_run_draws(address):
  from playwright import sync_api

  reference = json.loads((PAGE / 'reference.json').read_text())
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    page = browser.new_page(viewport={'width': 390, 'height': 844})
    requests, errors = [], []
    page.on('request', lambda request: requests.append(request.url))
    page.on('pageerror', lambda error: errors.append(error))  # noqa: PLW0108
    page.goto(f'{address}browser/index.html')
    page.wait_for_selector('#another:not([disabled])', timeout=60_000)
    images = page.evaluate(
      'async (r) => Array.from(await generate(r.latents, r.labels))', reference
    )
    shown = "document.getElementById('picture').toDataURL()"
    seen = [page.evaluate(shown)]

    def changes():
      page.wait_for_function(f'{shown} !== {json.dumps(seen[-1])}')
      seen.append(page.evaluate(shown))

    page.click('#another')
    changes()
    page.check('input[value="8"]')
    changes()
    page.focus('input[type=range]')
    page.keyboard.press('End')
    changes()
    page.click('#reset')
    changes()
    page.click('#walk')
    changes()
    changes()
    page.click('#walk')
    width = page.evaluate('document.documentElement.scrollWidth')
    browser.close()
  np.testing.assert_allclose(images, reference['images'], atol=1e-5, rtol=0)
  assert seen[4] == seen[2]  # the sliders are where they were
  assert not errors
  assert width <= 390
  assert all(url.startswith((address, f'blob:{address}')) for url in requests)
