"""The documentation site: what is gathered, converted and checked."""

import importlib.util
import re
import socket

from conftest import ROOT
import pytest

from docs import __main__ as site
from docs.site import docstrings
from docs.site import links
from docs.site import sources


def converted(text):
  return '\n'.join(docstrings.converted(text.split('\n')))


def test_names_become_links_and_code_stays_code():
  text = converted('See `gan_flax.losses` and `a b: `; x* and |x|, phi_ too.')
  assert text == (
    'See `gan_flax.losses` and ``a b:``; x* and \\|x\\|, phi\\_ too.'
  )


def test_formulas_between_dollars_are_typeset():
  assert converted(r'The slope $\frac{a}{b}$.') == (
    r'The slope :math:`\frac{a}{b}`.'
  )


def test_plain_formulas_are_typeset_too():
  text = converted('$KL[q || Pr(z)] = ∫ log q_z dz + σ^½$')
  assert text == (
    r':math:`\mathrm{KL}[q \,\|\, \mathrm{Pr}(z)] = ∫ \mathrm{log} q_z dz + '
    r'σ^{1/2}`'
  )


def test_commands_keep_their_lines_and_sections_their_form():
  text = 'Draws.\n\n  a-train --x=*\n\nArgs:\n  x: `y`.\n\n    More.\n'
  assert converted(text) == (
    'Draws.\n\n::\n\n  a-train --x=*\n\nArgs:\n  x: `y`.\n\n    More.'
  )


@pytest.fixture(scope='module')
def stage(tmp_path_factory):
  folder = tmp_path_factory.mktemp('stage')
  sources.Stage(folder).fill()
  return folder


def test_every_module_has_a_page_in_the_table_of_its_package(stage):
  names = sources.modules()
  assert {'gan_flax.losses', 'common_flax.nn', 'configs.dcgan'} <= set(names)
  for name in names:
    page = (stage / f'reference/{name}.md').read_text()
    assert f'.. automodule:: {name}\n' in page
    package = name.rpartition('.')[0] or 'index'
    assert f']({name}.md)' in (stage / f'reference/{package}.md').read_text()


def test_every_page_is_in_the_menu(stage):
  docs = {file.stem for file in (ROOT / 'docs').glob('*.md')}
  assert docs <= {*sources.GUIDES, *sources.SEE, *sources.PROJECT}
  notebooks = {file.stem for file in (ROOT / 'docs/notebooks').glob('*.md')}
  index = (stage / 'notebooks/index.md').read_text()
  menu = re.search(r'```{toctree}(.*)```', index, re.S)[1].split()
  assert notebooks == {'index', *menu[1:]}


def test_links_lead_to_pages_and_copied_files(stage):
  index = (stage / 'index.md').read_text()
  assert '[`gan_flax/gan.py`](reference/gan_flax.gan.md)' in index
  assert '(data.md)' in index
  assert 'src="samples.png"' in index
  assert (stage / 'samples.png').is_file()
  assert '(reference/gan_flax.config.md)' in (stage / 'train.md').read_text()
  assert (stage / 'launch/gce_tpu.sh').is_file()


def test_a_second_build_rewrites_only_what_has_changed(stage):
  page, old = stage / 'train.md', stage / 'old.md'
  before = page.stat().st_mtime_ns
  old.write_text('# Old')
  sources.Stage(stage).fill()
  assert page.stat().st_mtime_ns == before
  assert not old.exists()


def test_broken_and_remote_links_are_found(tmp_path):
  (tmp_path / 'a.html').write_text(
    '<a href="https://x.org">x</a> <a href="b.html#here">b</a>'
    '<a href="b.html#there">b</a> <img src="none.png">'
    '<script src="https://cdn.org/x.js"></script> <img src="data:,">'
  )
  (tmp_path / 'b.html').write_text('<p id="here">b</p>')
  (tmp_path / 'c.css').write_text('@font-face {src: url("https://f.org/f")}')
  assert [*links.broken(tmp_path)] == [
    'a.html: b.html#there has no such place',
    'a.html: none.png does not exist',
    'a.html: https://cdn.org/x.js is loaded from another host',
    'c.css: https://f.org/f is loaded from another host',
  ]


def test_a_port_that_is_taken_and_missing_packages_are_named(
  monkeypatch, capsys
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  monkeypatch.setattr(site, '_build', lambda *unused, **unused_too: 0)
  with socket.create_server(('127.0.0.1', 0)) as taken:
    port = taken.getsockname()[1]
    assert site.main([f'--port={port}']) == 2
  assert f'error: --port={port}: ' in capsys.readouterr().err
  assert site.main(['--build-only']) == 0
  monkeypatch.setattr(importlib.util, 'find_spec', lambda unused_name: None)
  assert site.main([]) == 2
  assert 'pip install' in capsys.readouterr().err


def test_what_the_site_needs_is_an_extra():
  setup = (ROOT / 'setup.cfg').read_text()
  extra = re.search(r'^docs =\n((?:    .*\n)+)', setup, re.M)[1]
  assert all('<' in line for line in extra.splitlines())
