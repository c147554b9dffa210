"""Checks the pages of a built site: inside links lead somewhere, offline."""

from collections.abc import Iterator
import functools
import html
import pathlib
import re
from typing import NamedTuple
import urllib.parse

# What a browser loads by itself; `a` waits for a click.
_LOADED = ('img', 'link', 'script', 'source', 'iframe', 'video', 'audio')
_TAG = re.compile(r'<([a-z]\w*)\s([^>]*)>')
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_REMOTE = re.compile(r'(https?:)?//')
# Links of a page's head that a browser does not load.
_UNLOADED_RELATIONS = ('canonical', 'index', 'search', 'next', 'prev')


class _Page(NamedTuple):
  """The names and links of a page."""

  names: frozenset[str]
  links: tuple[tuple[str, str], ...]  # tag, address


@functools.cache
def _page(file: pathlib.Path) -> _Page:
  names, links = set(), {}
  for tag, text in _TAG.findall(file.read_text()):
    values = dict(_ATTRIBUTE.findall(text))
    names |= {values.get('id'), values.get('name')}
    address = values.get('href') or values.get('src')
    if address and values.get('rel') not in _UNLOADED_RELATIONS:
      links[tag, html.unescape(address)] = None
  return _Page(frozenset(names), tuple(links))


def _problem(file: pathlib.Path, tag: str, address: str) -> str | None:
  """What is wrong with a link of a page, if anything."""
  if _REMOTE.match(address):
    return 'is loaded from another host' if tag in _LOADED else None
  parts = urllib.parse.urlsplit(address)
  if parts.scheme:  # data:, mailto:
    return None
  target = file
  if parts.path:
    target = (file.parent / urllib.parse.unquote(parts.path)).resolve()
  if not target.is_file():
    return 'does not exist'
  name = urllib.parse.unquote(parts.fragment)
  if name and target.suffix == '.html' and name not in _page(target).names:
    return 'has no such place'
  return None


def broken(folder: pathlib.Path) -> Iterator[str]:
  """Describes every broken link and every remote file of the pages, by line."""
  for file in sorted(folder.rglob('*.html')):
    for tag, address in _page(file).links:
      problem = _problem(file, tag, address)
      if problem:
        yield f'{file.relative_to(folder)}: {address} {problem}'
  for file in sorted(folder.rglob('*.css')):
    for address in re.findall(r'url\(["\']?([^"\')]+)', file.read_text()):
      if _REMOTE.match(address):
        page = file.relative_to(folder)
        yield f'{page}: {address} is loaded from another host'
