"""Gathers the sources of the site: pages, notebooks and a page per module.

The pages in `docs/` and the README are written for a viewer of Markdown. Here
they are copied to a folder of their own, where links to source files become
links to the reference.
"""

import ast
from collections.abc import Iterable
import os
import pathlib
import re
import shutil

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = {
  'gan_flax': 'Generative adversarial networks',
  'vae_flax': 'Variational autoencoders',
  'vq_flax': 'Discrete latents',
  'common_flax': 'What all families share',
  'configs': 'Recipes',
  'examples': 'Examples',
}
# Pages from outside docs/.
FRONT = {
  'README.md': 'index.md',
  'CONTRIBUTING.md': 'contributing.md',
  'CHANGELOG.md': 'changelog.md',
  'benchmarks/README.md': 'benchmarks.md',
  'launch/README.md': 'launch.md',
}
GUIDES = (
  'train',
  'data',
  'python',
  'sample',
  'explore',
  'evaluate',
  'report',
  'export',
  'stability',
  'vae',
  'vq',
  'audit',
  'speed',
  'several_machines',
  'faults_and_safety',
  'extending',
)
SEE = ('gallery', 'notebooks/index')
PROJECT = ('benchmarks', 'launch', 'contributing', 'changelog')
_LINK = re.compile(
  r'(?P<before>\[(?P<text>[^]]*)\]\(|src=")(?P<path>[^)"#:\s]+)'
  r'(?P<after>#[^)]*\)|[)"])'
)
FOLDERS = ('configs', 'examples')  # of modules, but no packages


def modules() -> dict[str, pathlib.Path]:
  """The file of every module of the reference, by name."""
  found = {}
  for package in PACKAGES:
    for file in sorted((ROOT / package).rglob('*.py')):
      parts = file.relative_to(ROOT).with_suffix('').parts
      parts = parts[:-1] if parts[-1] == '__init__' else parts
      if not any(part.startswith('__') for part in parts):
        found['.'.join(parts)] = file
  return found


def copy_apps(output: pathlib.Path) -> None:
  """Copies the pages of docs/ that are no Markdown into the site."""
  for page in (ROOT / 'docs').glob('*/index.html'):
    shutil.copytree(
      page.parent,
      output / page.parent.name,
      dirs_exist_ok=True,
      ignore=shutil.ignore_patterns('*.py', '__pycache__'),
    )


def summary(file: pathlib.Path) -> str:
  """The first sentence of a module's docstring."""
  doc = ast.get_docstring(ast.parse(file.read_text())) or ''
  return ' '.join(doc.split('\n\n')[0].split()).replace('|', '\\|')


def _toctree(entries: Iterable[str], caption: str = '') -> str:
  """A part of the menu, which is not shown on the page itself."""
  title = f':caption: {caption}\n' if caption else ''
  rows = '\n'.join(entries)
  return f'\n```{{toctree}}\n:hidden:\n{title}\n{rows}\n```\n'


class Stage:
  """A folder of Sphinx sources that is made of the repository."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._written: set[pathlib.Path] = set()
    self._modules = modules()
    # What becomes a page: file or folder -> page.
    self._pages = {
      file: str(file.relative_to(ROOT / 'docs'))
      for file in sorted((ROOT / 'docs').rglob('*.md'))
    }
    self._pages |= {ROOT / file: page for file, page in FRONT.items()}
    for name, file in self._modules.items():
      self._pages[file] = f'reference/{name}.md'
      if file.name == '__init__.py':
        self._pages[file.parent] = f'reference/{name}.md'
    for name in FOLDERS:
      self._pages[ROOT / name] = f'reference/{name}.md'
    notebooks = sorted(
      file.stem for file in (ROOT / 'docs/notebooks').glob('[0-9]*.md')
    )
    self._menus = {'index.md': _MENU, 'notebooks/index.md': _toctree(notebooks)}

  def fill(self) -> None:
    """Writes all sources, and removes those that nothing asks for any more."""
    for file, page in self._pages.items():
      if file.suffix == '.md':
        text = self._relinked(file, page)
        self._write(page, text + self._menus.get(page, ''))
    for name, file in self._modules.items():
      self._write(f'reference/{name}.md', self._module_page(name, file))
    for name in FOLDERS:
      self._write(f'reference/{name}.md', self._listing(name, name))
    self._write('reference/index.md', _REFERENCE)
    for file in [*self._folder.rglob('*')]:
      if file.is_file() and file not in self._written:
        file.unlink()

  def _write(self, path: str, data: str | bytes) -> None:
    """Writes a file unless it is the same already, which Sphinx notices."""
    data = data.encode() if isinstance(data, str) else data
    target = self._folder / path
    self._written.add(target)
    if target.is_file() and target.read_bytes() == data:
      return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)

  def _relinked(self, file: pathlib.Path, page: str) -> str:
    """The text of a page with links that hold where it will be."""

    def link(match: re.Match) -> str:
      target = pathlib.Path(os.path.normpath(file.parent / match['path']))
      if target.suffix == '.html':  # stands beside the pages, see `copy_apps`
        return f'<a href="{match["path"]}">{match["text"]}</a>'
      if target.is_dir() and target not in self._pages:
        return match['text']  # such as that of a folder of tests
      return match['before'] + self._place(target, page) + match['after']

    parts = re.split(r'(^```.*?^```$)', file.read_text(), flags=re.M | re.S)
    parts[::2] = (_LINK.sub(link, part) for part in parts[::2])
    return ''.join(parts)

  def _place(self, target: pathlib.Path, page: str) -> str:
    """Where a page finds a file, which is copied if it is no page."""
    place = self._pages.get(target)
    if place is None:
      place = str(target.relative_to(ROOT)).removeprefix('docs/')
      self._write(place, target.read_bytes())
    return os.path.relpath(place, pathlib.PurePath(page).parent)

  def _module_page(self, name: str, file: pathlib.Path) -> str:
    module = f'```{{eval-rst}}\n.. automodule:: {name}\n```\n'
    if file.name == '__init__.py':
      return self._listing(name, name, module)
    # A menu of every module would be long, and half of every page.
    package = name.rpartition('.')[0]
    up = f'In [{package}]({package}.md).'
    return f'---\norphan: true\n---\n\n# {name}\n\n{up}\n\n{module}'

  def _listing(self, name: str, title: str, text: str = '') -> str:
    """The page of a package: what it says, and a table of its modules."""
    inside = [each for each in self._modules if each.rpartition('.')[0] == name]
    rows = (
      f'| [{each.removeprefix(f"{name}.")}]({each}.md) '
      f'| {summary(self._modules[each])} |'
      for each in inside
    )
    table = '\n'.join(['| | |', '|---|---|', *rows])
    packages = [
      each for each in inside if self._modules[each].name == '__init__.py'
    ]
    menu = _toctree(packages) if packages else ''
    return f'# {title}\n\n{text}\n{table}\n{menu}'


_MENU = ''.join(
  [
    _toctree(GUIDES, 'Guides'),
    _toctree(SEE, 'See'),
    _toctree(['reference/index'], 'Reference'),
    _toctree(PROJECT, 'Project'),
  ]
)
_REFERENCE = (
  '# Reference\n\n'
  'Every module with the documentation of its public names. '
  '[Use it from Python](../python.md#public-names) lists the names to start '
  'with.\n\n| | |\n|---|---|\n'
  + ''.join(
    f'| [{name}]({name}.md) | {PACKAGES[name]} |\n' for name in PACKAGES
  )
  + _toctree(PACKAGES)
)
